// millrace VERB: everything a user does, in one binary. Parses the command line, runs the verb, prints people's text
// to stderr and, with --json, one object as the last line of stdout. Nothing throws out of here.
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>

#include "tools/cli/command_line.h"
#include "tools/cli/verbs.h"

int main(int argc, char** argv) {
  try {
    absl::StatusOr<millrace::CommandLine> line = millrace::ParseCommandLine(argc, argv);
    if (!line.ok()) {
      millrace::CommandLine wanted;
      for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--json") == 0) wanted.flags["json"] = "";
      }
      std::cerr << millrace::Usage() << "\n";
      return millrace::Fail(wanted, line.status(), millrace::FindingsOf(line.status()), 2);
    }
    return millrace::RunVerb(*line, argv[0]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 3;
  }
}
