// Loads a pipeline (or a machine) from its text and `--set` assignments, and says everything that is wrong with it
// in one report: syntax, unknown names, contradictions between settings, settings that change nothing.
//
//   Findings findings;
//   auto pipeline = LoadPipeline("pipelines/digits_vit.textproto", {"train.steps=20"}, findings);
//   if (!pipeline.ok()) { std::cerr << findings.ToText(); return 2; }
//   pipeline->proto.train().steps();
//   pipeline->Locate("model.name");      // for findings of those who look models, files and machines up
//
// Afterwards train.micro_batch, train.global_batch and name are filled in. No file but the text itself is touched.
#ifndef MILLRACE_GRAPH_IR_PIPELINE_TEXT_H_
#define MILLRACE_GRAPH_IR_PIPELINE_TEXT_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "graph/base/findings.h"
#include "graph/ir/graph.h"
#include "graph/ir/machine.pb.h"
#include "graph/ir/pipeline.pb.h"
#include "graph/ir/text_reader.h"

namespace millrace {

enum class Origin : uint8_t { kDefault, kFile, kSet, kInferred };
absl::string_view Name(Origin o);  // "default", "file", "--set", "inferred"

struct LoadedPipeline {
  Pipeline proto;
  std::string file;
  TextLocations locations;
  std::map<std::string, std::string> overrides;  // path -> the assignment that set it
  std::map<std::string, Origin> inferred;        // paths that the loader filled in
  std::optional<Graph> graph;                    // the hand-written step, when there is one

  // Where the field was set: a line of the file, or "--set path=value" as file and line 0.
  SourceLocation Locate(absl::string_view path) const;
  Origin OriginOf(absl::string_view path) const;
  // A finding at that place.
  Finding At(absl::string_view path, std::string check, std::string message,
             std::string suggestion = "") const;
};

absl::StatusOr<LoadedPipeline> LoadPipeline(const std::string& path,
                                            const std::vector<std::string>& overrides,
                                            Findings& findings);
absl::StatusOr<LoadedPipeline> ParsePipeline(absl::string_view text, const std::string& file,
                                             const std::vector<std::string>& overrides,
                                             Findings& findings);

absl::StatusOr<Machine> LoadMachine(const std::string& path, Findings& findings);
absl::StatusOr<Machine> ParseMachine(absl::string_view text, const std::string& file,
                                     Findings& findings);

// Every setting with where it comes from. The hand-written step is left out; millrace export prints it.
struct ResolvedField {
  std::string path;   // "train.seed"
  std::string value;  // as text: "0", "ADAMW", "[0.5, 0.5]"
  Origin origin = Origin::kDefault;
  SourceLocation where;  // kFile: file and line; kSet: the assignment as file
};
std::vector<ResolvedField> ResolvedFields(const LoadedPipeline& pipeline);
// The same, one a line: "train.seed: 0  # default".
std::string ResolvedText(const LoadedPipeline& pipeline);

// The first of `folders` that holds `path` (a file or folder); an absolute path stands for itself. The error names
// every place that was tried.
absl::StatusOr<std::string> ResolvePath(const std::string& path,
                                        const std::vector<std::string>& folders);

// The checks of meaning, for pipelines made in code. Fills in what LoadPipeline fills in.
void CheckPipeline(LoadedPipeline& pipeline, Findings& findings);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_IR_PIPELINE_TEXT_H_
