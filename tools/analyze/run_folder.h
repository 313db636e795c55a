// What `millrace run` left in its folder, read for analysis: run.json (the result), metrics.jsonl (loss per step),
// trace.json (the last steps, measured) and predicted_trace.json (the simulator's step). A trace file alone, of a run
// or of `millrace export --format chrome`, is a run of which only the trace is known.
//
//   ASSIGN_OR_RETURN(RunFiles run, ReadRun("millrace_runs/digits_vit"));
//   if (run.trace != nullptr) Analyze(*run.trace, run.predicted);
#ifndef MILLRACE_TOOLS_ANALYZE_RUN_FOLDER_H_
#define MILLRACE_TOOLS_ANALYZE_RUN_FOLDER_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/trace/chrome_reader.h"

namespace millrace {

struct RunFiles {
  std::string path;
  std::string name;               // last part of the path
  nlohmann::ordered_json result;  // run.json; an empty object when there is none
  std::vector<double> losses;     // of metrics.jsonl, in the order of the steps
  std::vector<TraceFile> files;   // what the pointers below point into
  const Trace* trace = nullptr;   // measured if there is one; null: the run kept none
  const Trace* predicted = nullptr;
};

// kNotFound for a folder without any of these files; kInvalidArgument, with file and place, for damaged ones.
absl::StatusOr<RunFiles> ReadRun(const std::string& path);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_ANALYZE_RUN_FOLDER_H_
