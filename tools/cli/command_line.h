// The words of a command line: verb, positional arguments, flags. Flags are --name=value or --name value, switches
// are --name; `--set` may be repeated. An unknown flag is an error with the nearest known one, never ignored.
//
//   absl::StatusOr<CommandLine> c = ParseCommandLine(argc, argv);
//   c->verb == "run"; c->arguments[0] == "pipelines/digits_vit.textproto"; c->sets; c->Has("json");
#ifndef MILLRACE_TOOLS_CLI_COMMAND_LINE_H_
#define MILLRACE_TOOLS_CLI_COMMAND_LINE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace millrace {

struct CommandLine {
  std::string verb;
  std::vector<std::string> arguments;
  std::vector<std::string> sets;             // values of --set, in order
  std::map<std::string, std::string> flags;  // others; "" for switches; of a repeated one the last
  std::map<std::string, std::vector<std::string>> repeated;  // as flags, all of them in order
  std::string typed;  // the whole line, to be typed again: "millrace run digits_vit --quiet"
  bool Has(const std::string& flag) const { return flags.count(flag) > 0; }
  std::string Get(const std::string& flag, const std::string& fallback) const {
    const auto it = flags.find(flag);
    return it == flags.end() ? fallback : it->second;
  }
};

// kInvalidArgument names every mistake. "-h" and "--help" give the verb "help".
absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv);

// What `millrace help` prints.
std::string Usage();

}  // namespace millrace

#endif  // MILLRACE_TOOLS_CLI_COMMAND_LINE_H_
