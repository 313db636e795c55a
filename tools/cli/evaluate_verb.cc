// evaluate: trained weights held against their test data, without training: several variants, several image sizes, one
// table. Everything is checked before the first evaluation starts.
#include <iostream>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "data/file.h"
#include "graph/verify/verify.h"
#include "pipelines/runner/scores.h"
#include "pipelines/runner/weights_evaluation.h"
#include "tools/cli/report.h"
#include "tools/cli/verbs.h"
#include "tools/evaluate/score_table.h"

namespace millrace {
namespace {

struct Variant {
  std::string name, pipeline, weights;  // weights "": of the pipeline's own run
};

// One evaluation to come.
struct Candidate {
  Variant variant;
  std::string weights;  // the file
  CompiledPipeline compiled;
};

class Complaints {
 public:
  void Add(std::string message, std::string help = "") {
    findings_.Add(
        {.check = "evaluate", .message = std::move(message), .suggestion = std::move(help)});
  }
  // Of one variant.
  void Add(const std::string& variant, const Findings& findings) {
    for (Finding f : findings.list()) {
      f.message = absl::StrCat(variant, ": ", f.message);
      findings_.Add(std::move(f));
    }
  }
  bool none() const { return findings_.ok(); }
  const Findings& findings() const { return findings_; }

 private:
  Findings findings_;
};

std::vector<Variant> VariantsOf(const CommandLine& line, Complaints& complaints) {
  std::vector<Variant> variants;
  if (line.arguments.size() > 1) {
    complaints.Add(absl::StrCat("'evaluate' takes one pipeline, got ", line.arguments.size()),
                   "several: --variant NAME=PIPELINE@CHECKPOINT for each");
  } else if (line.arguments.size() == 1) {
    std::string name = line.arguments[0].substr(line.arguments[0].rfind('/') + 1);
    name = name.substr(0, name.find(".textproto"));
    variants.push_back({name, line.arguments[0], line.Get("checkpoint", "")});
  } else if (line.Has("checkpoint")) {
    complaints.Add("--checkpoint belongs to the pipeline that is named, and none is",
                   "`millrace evaluate PIPELINE --checkpoint PATH`");
  }
  const auto given = line.repeated.find("variant");
  const auto texts = given == line.repeated.end() ? std::vector<std::string>{} : given->second;
  for (const std::string& text : texts) {
    const size_t equal = text.find('='), at = text.find('@', equal + 1);
    if (equal == std::string::npos || equal == 0 || equal + 1 == text.size()) {
      complaints.Add(absl::StrCat("--variant ", text, ": expected NAME=PIPELINE@CHECKPOINT"));
      continue;
    }
    variants.push_back({text.substr(0, equal), text.substr(equal + 1, at - equal - 1),
                        at == std::string::npos ? "" : text.substr(at + 1)});
  }
  if (variants.empty() && complaints.none()) {
    complaints.Add("'evaluate' needs a pipeline, or a --variant",
                   "`millrace evaluate PIPELINE --checkpoint PATH`");
  }
  std::set<std::string> names;
  for (const Variant& v : variants) {
    if (!names.insert(v.name).second) {
      complaints.Add(absl::StrCat("two variants are called '", v.name, "'"));
    }
  }
  return variants;
}

// None: the model's own.
std::vector<int64_t> SizesOf(const CommandLine& line, Complaints& complaints) {
  std::vector<int64_t> sizes;
  if (!line.Has("image_sizes")) return sizes;
  for (const absl::string_view text : absl::StrSplit(line.Get("image_sizes", ""), ',')) {
    int64_t size = 0;
    if (!absl::SimpleAtoi(text, &size) || size < 1 || size > 65536) {
      complaints.Add(absl::StrCat("--image_sizes: '", text, "' is not a size in pixels"),
                     "such as --image_sizes 128,192,256");
    } else if (std::find(sizes.begin(), sizes.end(), size) != sizes.end()) {
      complaints.Add(absl::StrCat("--image_sizes: ", size, " stands there twice"));
    } else {
      sizes.push_back(size);
    }
  }
  return sizes;
}

std::string WeightsOf(const Variant& v, const LoadedPipeline& loaded, const Folders& folders,
                      Complaints& complaints) {
  const Checkpoint& checkpoint = loaded.proto.checkpoint();
  const std::string own =
      checkpoint.has_folder() ? checkpoint.folder() : "millrace_runs/" + loaded.proto.name();
  const absl::StatusOr<std::string> file =
      FindWeights(UserPath(folders, v.weights.empty() ? own : v.weights));
  if (file.ok()) return *file;
  complaints.Add(absl::StrCat(v.name, ": ", std::string(file.status().message())),
                 v.weights.empty() ? "--checkpoint, or NAME=PIPELINE@CHECKPOINT" : "");
  return "";
}

// Compiles one evaluation and holds the file's tensors against its model.
void AddCandidate(const Variant& v, const std::string& weights, LoadedPipeline loaded, int64_t size,
                  const Folders& folders, Complaints& complaints, std::vector<Candidate>& all) {
  const std::string label = size > 0 ? absl::StrCat(v.name, " at ", size) : v.name;
  const auto fail = [&](const absl::Status& status) {
    complaints.Add(absl::StrCat(label, ": ", std::string(status.message())));
  };
  if (!loaded.proto.has_model()) {
    return complaints.Add(absl::StrCat(label, ": a step written by hand has no evaluation"));
  }
  if (size > 0) {
    const absl::Status set = SetImageSize(size, &loaded);
    if (!set.ok()) return fail(set);
  }
  Findings findings;
  absl::StatusOr<CompiledPipeline> compiled =
      Compile(std::move(loaded), MachineFolders(folders), findings,
              {.on_devices = true, .training = false});
  if (!compiled.ok()) {
    return findings.ok() ? fail(compiled.status()) : complaints.Add(label, findings);
  }
  const VerifyResult proof = Verify(*compiled->eval_plan);
  if (!proof.ok) return fail(absl::InternalError(ToText(proof, *compiled->eval_plan)));
  Findings misfits;
  if (!weights.empty()) CheckWeights(weights, compiled->eval_spec, &misfits);
  if (!misfits.ok()) return complaints.Add(label, misfits);
  all.push_back({v, weights, *std::move(compiled)});
}

std::vector<Candidate> CandidatesOf(const CommandLine& line, const Folders& folders,
                                    Complaints& complaints) {
  const std::vector<Variant> variants = VariantsOf(line, complaints);
  std::vector<int64_t> sizes = SizesOf(line, complaints);
  if (sizes.empty()) sizes = {0};
  std::vector<Candidate> all;
  for (const Variant& v : variants) {
    Findings findings;
    absl::StatusOr<LoadedPipeline> loaded = FindPipeline(v.pipeline, line.sets, folders, findings);
    if (!loaded.ok()) {
      complaints.Add(v.name, findings);
      continue;
    }
    const std::string weights = WeightsOf(v, *loaded, folders, complaints);
    for (const int64_t size : sizes) {
      AddCandidate(v, weights, *loaded, size, folders, complaints, all);
    }
  }
  for (const Candidate& c : all) {
    if (c.compiled.eval_model.task == all[0].compiled.eval_model.task) continue;
    complaints.Add(absl::StrCat("'", c.variant.name, "' is for ",
                                TaskName(c.compiled.eval_model.task), ", '", all[0].variant.name,
                                "' for ", TaskName(all[0].compiled.eval_model.task),
                                ": no table can hold both"));
    break;
  }
  return all;
}

std::string MetricOf(const CommandLine& line, const std::vector<Candidate>& candidates,
                     Complaints& complaints) {
  if (candidates.empty()) return "";
  std::vector<std::string> names = ScoreNames(candidates[0].compiled.eval_model.task);
  const std::string metric = line.Get("metric", names[0]);
  names.push_back("loss");
  if (std::find(names.begin(), names.end(), metric) == names.end()) {
    complaints.Add(absl::StrCat("--metric ", metric, " is not known"),
                   absl::StrCat("one of ", absl::StrJoin(names, ", ")));
  }
  return metric;
}

ScoreRow RowOf(const Candidate& c, const WeightsEvaluation& e) {
  ScoreRow row;
  row.variant = c.variant.name;
  row.pipeline = c.compiled.loaded.proto.name();
  row.weights = c.weights;
  row.height = c.compiled.image_needs.height;
  row.width = c.compiled.image_needs.width;
  row.parameters = c.compiled.eval_spec.parameter_count();
  row.metrics = e.metrics;
  row.seconds = e.seconds;
  row.device_bytes = e.device_bytes;
  return row;
}

}  // namespace

int EvaluateVerb(const CommandLine& line, const Folders& folders) {
  Complaints complaints;
  const std::vector<Candidate> candidates = CandidatesOf(line, folders, complaints);
  const std::string metric = MetricOf(line, candidates, complaints);
  if (line.Has("metric") && !line.Has("svg")) {
    complaints.Add("--metric chooses what --svg draws, and there is no --svg");
  }
  if (!complaints.none()) {
    return Fail(line, complaints.findings().ToStatus(), complaints.findings(), 2);
  }

  std::vector<ScoreRow> rows;
  for (const Candidate& c : candidates) {
    const std::vector<std::string> data = {
        c.compiled.loaded.file.substr(0, c.compiled.loaded.file.rfind('/')), folders.repository,
        folders.user};
    const absl::StatusOr<WeightsEvaluation> e = EvaluateWeights(c.compiled, c.weights, data);
    if (!e.ok()) {
      // Files of data are the user's; what fails in the middle of a pass is not.
      const bool data_failed = absl::IsInvalidArgument(e.status()) || absl::IsNotFound(e.status());
      return Fail(line, e.status(), Findings(), data_failed ? 2 : 3);
    }
    rows.push_back(RowOf(c, *e));
    if (!line.Has("quiet")) {
      std::cerr << absl::StrFormat("%s at %dx%d: %s (%.1f s)\n", c.variant.name, rows.back().height,
                                   rows.back().width, ToText(e->metrics), e->seconds);
    }
  }
  std::cout << ScoreTableText(rows) << std::flush;

  Json json = {{"metric", metric}, {"rows", ScoreTableJson(rows)}, {"outputs", Json::object()}};
  std::vector<std::pair<std::string, std::string>> outputs;
  if (line.Has("csv")) outputs.emplace_back("csv", ScoreTableCsv(rows));
  if (line.Has("svg")) outputs.emplace_back("svg", ScoreChart(rows, metric));
  for (const auto& [flag, text] : outputs) {
    const std::string path = UserPath(folders, line.Get(flag, ""));
    const absl::Status written = WriteFileAtomically(path, text);
    if (!written.ok()) return Fail(line, written, Findings(), 3);
    json["outputs"][flag] = path;
  }
  PrintJson(line, json.dump());
  return 0;
}

}  // namespace millrace
