#include "tools/cli/command_line.h"

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "graph/base/findings.h"

namespace millrace {
namespace {

struct FlagSpec {
  bool takes_value = false;
  bool optional_value = false;           // --resume or --resume=PATH
  std::set<std::string> verbs;           // empty: all
  std::vector<std::string> values = {};  // the only ones allowed; empty: any
};

const std::map<std::string, FlagSpec>& Flags() {
  static const auto* const flags = new std::map<std::string, FlagSpec>{
      {"json", {}},
      {"set", {true}},
      {"set_a", {true, false, {"diff"}}},
      {"set_b", {true, false, {"diff"}}},
      {"exit_code", {false, false, {"diff"}}},
      {"csv", {true, false, {"analyze", "evaluate"}}},
      {"plot", {true, false, {"analyze"}}},
      {"hta", {true, false, {"analyze"}}},
      {"svg", {true, false, {"evaluate"}}},
      {"metric", {true, false, {"evaluate"}}},
      {"checkpoint", {true, false, {"evaluate"}}},
      {"image_sizes", {true, false, {"evaluate"}}},
      {"variant", {true, false, {"evaluate"}}},
      {"quiet", {false, false, {"run", "evaluate"}}},
      {"losses", {false, false, {"run"}}},
      {"resume", {false, true, {"run"}}},
      {"folder", {true, false, {"run"}}},
      {"dry_run", {false, false, {"run"}}},
      {"show_config", {false, false, {"run", "plan"}}},
      {"format",
       {true,
        false,
        {"export", "data"},
        {"text", "json", "dot", "chrome", "html", "cifar100", "isic", "coco"}}},
      {"steps", {true, false, {"calibrate"}}},
      {"what_if", {true, false, {"simulate"}}},
      {"summary", {false, false, {"plan"}}},
      {"what", {true, false, {"export"}, {"graph", "plan"}}},
      {"out", {true, false, {"export", "data", "calibrate", "verify"}}},
      {"certificate", {true, false, {"run"}}},
      {"classes", {true, false, {"data"}}},
      {"devices", {true, false, {"advise"}}},
      {"memory", {true, false, {"advise"}}},
      {"host_memory", {true, false, {"advise"}}},
      {"storage", {true, false, {"advise"}}},
      {"compatible", {false, false, {"advise"}}},
      {"train", {true, false, {"data"}}},
      {"val", {true, false, {"data"}}},
      {"test", {true, false, {"data"}}},
      {"min_side", {true, false, {"data"}}},
      {"max_side", {true, false, {"data"}}},
      {"seed", {true, false, {"data"}}},
  };
  return *flags;
}

const std::vector<std::string>& Verbs() {
  static const auto* const verbs = new std::vector<std::string>{
      "run",     "plan", "verify",   "simulate", "calibrate", "evaluate", "export",
      "analyze", "diff", "describe", "explain",  "advise",    "data",     "help"};
  return *verbs;
}

std::string Suggest(const std::string& word, const std::vector<std::string>& known,
                    const std::string& prefix) {
  const std::string near = Nearest(word, known);
  return near.empty() ? absl::StrCat("known: ", absl::StrJoin(known, ", "))
                      : absl::StrCat("did you mean ", prefix, near);
}

// As a shell needs it.
std::string Quoted(const std::string& word) {
  const auto plain = [](char c) {
    return absl::ascii_isalnum(c) || absl::StrContains("-_./=,:+@%[]", c);
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) return word;
  return absl::StrCat("'", absl::StrReplaceAll(word, {{"'", "'\\''"}}), "'");
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv) {
  CommandLine c;
  c.typed = "millrace";
  for (int i = 1; i < argc; ++i) absl::StrAppend(&c.typed, " ", Quoted(argv[i]));
  Findings findings;
  const auto complain = [&](std::string message, std::string suggestion) {
    findings.Add({.check = "command_line",
                  .message = std::move(message),
                  .suggestion = std::move(suggestion)});
  };
  std::vector<std::string> names;
  for (const auto& [name, spec] : Flags()) names.push_back(name);
  std::vector<std::pair<std::string, std::string>> given;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    if (word == "-h" || word == "--help") {
      c.verb = "help";
      return c;
    }
    if (!absl::StartsWith(word, "--") || word.size() == 2) {
      (c.verb.empty() ? c.verb : c.arguments.emplace_back()) = word;
      continue;
    }
    word = word.substr(2);
    const size_t equal = word.find('=');
    std::string name = word.substr(0, equal);
    for (char& ch : name) ch = ch == '-' ? '_' : ch;  // --dry-run is --dry_run
    const auto spec = Flags().find(name);
    if (spec == Flags().end()) {
      complain(absl::StrCat("unknown flag --", name), Suggest(name, names, "--"));
      continue;
    }
    std::string value = equal == std::string::npos ? "" : word.substr(equal + 1);
    if (equal == std::string::npos && spec->second.takes_value) {
      if (i + 1 >= argc) {
        complain(absl::StrCat("flag --", name, " needs a value"), "");
        continue;
      }
      value = argv[++i];
    } else if (equal != std::string::npos && !spec->second.takes_value &&
               !spec->second.optional_value) {
      complain(absl::StrCat("flag --", name, " takes no value, got '", value, "'"), "");
    }
    const std::vector<std::string>& allowed = spec->second.values;
    if (!allowed.empty() && std::find(allowed.begin(), allowed.end(), value) == allowed.end()) {
      complain(absl::StrCat("--", name, "=", value, " is not known"), Suggest(value, allowed, ""));
    }
    if (name == "set") {
      c.sets.push_back(value);
    } else {
      c.flags[name] = value;
      c.repeated[name].push_back(value);
    }
  }
  if (c.verb.empty()) {
    complain("no verb given", absl::StrCat("one of ", absl::StrJoin(Verbs(), ", ")));
  } else if (std::find(Verbs().begin(), Verbs().end(), c.verb) == Verbs().end()) {
    complain(absl::StrCat("unknown verb '", c.verb, "'"), Suggest(c.verb, Verbs(), ""));
  } else {
    for (const auto& [name, value] : c.flags) {
      const std::set<std::string>& verbs = Flags().at(name).verbs;
      if (!verbs.empty() && verbs.count(c.verb) == 0) {
        complain(absl::StrCat("flag --", name, " means nothing to '", c.verb, "'"),
                 absl::StrCat("it belongs to ", absl::StrJoin(verbs, ", ")));
      }
    }
  }
  if (!findings.ok()) return findings.ToStatus();
  return c;
}

std::string Usage() {
  return R"(millrace VERB ...

  run PIPELINE        plan, verify, train        --dry_run --resume[=CHECKPOINT] --folder=DIR --quiet --losses
                      --certificate=FILE: runs what FILE covers, and nothing else; without it run verifies by itself
  plan PIPELINE       memory, communication, order of the step             --show_config --summary
  verify PIPELINE     proves the plan: types, races, collectives, deadlock, memory, gradients
                      [--out FILE: the certificate]
  simulate PIPELINE   predicted step time and where it goes    --what_if link.intra_node=0.5x,rank.1=1.2x
  calibrate PIPELINE  measures what nodes cost here; the table goes into the pipeline's `costs`   [--out FILE --steps N]
  evaluate PIPELINE   trained weights on the test data, without training: one table  [--checkpoint RUN | FILE]
                      [--variant NAME=PIPELINE@CHECKPOINT (repeated)] [--image_sizes 128,256] [--csv FILE]
                      [--svg FILE [--metric NAME]] [--quiet]
  export PIPELINE     --format text|json|dot|chrome|html  [--what graph|plan] [--out FILE]
  analyze RUN...      where the time of a run went; several runs side by side  --csv FILE --plot FILE.svg --hta DIR
  diff A B            memory, communication, time, nodes of two pipelines or plans  [--set_a X=Y --set_b X=Y --exit_code]
  describe model [NAME] | op [NAME] | pipeline PIPELINE
  explain PIPELINE NODE | KNOB   why the node stands where it stands; what the setting does here, in bytes and seconds
  advise PIPELINE     which ZeRO stage, recompute, offload fit, which is fastest  --devices N --memory 80GiB
                      [--host_memory 512GiB --storage 4TB] [--compatible: by the formula alone]
  data make           --format cifar100 --out DIR [--classes N --train N --test N --seed N]
                      --format isic --out DIR [--train N --val N --test N --min_side N --max_side N --seed N]
                      --format coco --out DIR [--classes N --train N --val N --min_side N --max_side N --seed N]

  every verb          --set path.to.field=value (repeated)   --json (one JSON object as the last line of stdout)

PIPELINE is a textproto file or the name of one in pipelines/. RUN is the folder of a run or a trace.json. A and B are
pipelines, plans (export --format json) or summaries (plan --summary). Exit codes: 0 done, 2 bad input, 3 failed,
4 stuck, 130 interrupted after a clean stop.
)";
}

}  // namespace millrace
