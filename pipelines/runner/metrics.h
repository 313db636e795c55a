// What a run tells: metrics.jsonl for machines, one live line for people.
//
//   {"step": 20, "epoch": 0, "loss": 2.1, "lr": 0.001, "grad_norm": 1.3, "step_seconds": 0.011, "samples_per_second": 5800}
//   {"step": 21, ..., "loss_scale": 65536, "skipped": true, "overflow": {"parameter": "classifier.weight", "rank": 1}}
//   {"step": 20, "eval_loss": 1.9, "top1": 0.41, "top5": 0.88, "samples": 297}     the values by task (scores.h)
//
// The progress line goes to stderr: rewritten in place on a terminal, a plain line at most every few seconds
// elsewhere. Not thread-safe.
#ifndef MILLRACE_PIPELINES_RUNNER_METRICS_H_
#define MILLRACE_PIPELINES_RUNNER_METRICS_H_

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace millrace {

struct StepMetrics {
  int64_t step = 0, epoch = 0;
  double loss = 0, lr = 0;
  double grad_norm = -1;  // < 0: not computed
  double step_seconds = 0, samples_per_second = 0;
  double loss_scale = 0;  // of this step; 0: none
  bool skipped = false;   // an overflow: nothing was updated
  std::string
      overflow_parameter;  // the first whose gradient was not finite; "": only a sum over the ranks was not
  int overflow_rank = -1;  // and where
};

struct EvalMetrics {
  int64_t step = 0;
  double loss = 0;
  int64_t samples = 0;
  std::vector<std::pair<std::string, double>>
      values;  // by task: top1, top5; dice, iou, ...; ap, ap50, ...
};
std::string ToText(const EvalMetrics& m);  // "loss 0.3106  top1 0.9596  top5 0.9966"

class MetricsFile {
 public:
  // Opens for appending. Lines of steps after `resume_step` (left by a run that went further than its last
  // checkpoint) are dropped first; resume_step 0 starts anew.
  static absl::StatusOr<std::unique_ptr<MetricsFile>> Open(const std::string& path,
                                                           int64_t resume_step);
  ~MetricsFile();
  absl::Status Write(const StepMetrics& m);
  absl::Status Write(const EvalMetrics& m);
  const std::string& path() const { return path_; }

 private:
  explicit MetricsFile(std::string path, std::FILE* file) : path_(std::move(path)), file_(file) {}
  absl::Status WriteLine(const std::string& line);
  std::string path_;
  std::FILE* file_;
};

class ProgressLine {
 public:
  // `quiet` prints nothing. total_steps for the bar and the time left.
  ProgressLine(int64_t total_steps, int64_t first_step, std::string memory, bool quiet);
  void Update(const StepMetrics& m);
  // Prints a full line above or instead of the live one.
  void Say(const std::string& text);
  void Finish();

 private:
  const int64_t total_, first_;
  const std::string memory_;
  const bool quiet_, terminal_;
  double started_, last_print_ = -1e9;
  bool live_ = false;
};

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_METRICS_H_
