// Learning-rate schedules with DeepSpeed's names, formulas and timing: WarmupLR, WarmupDecayLR,
// WarmupCosineLR, and a constant rate.
//
//   LrScheduler schedule(options);
//   double lr = schedule.AfterSteps(k);   // rate after k calls of the scheduler, used by optimizer step k + 1
//
// AfterSteps(0) is the rate right after construction: the minimum (0 for cosine). Call k >= 1 has index
// t = k - 1, so with logarithmic warm-up the first two optimizer steps run at the starting rate, as there.
#ifndef MILLRACE_PIPELINES_RUNNER_LR_SCHEDULE_H_
#define MILLRACE_PIPELINES_RUNNER_LR_SCHEDULE_H_

#include <cstdint>

namespace millrace {

struct LrScheduleOptions {
  enum class Kind { kConstant, kWarmup, kWarmupDecay, kWarmupCosine };
  Kind kind = Kind::kConstant;
  double lr = 1e-3;             // the constant rate, or the top of the warm-up
  double warmup_min_lr = 0;     // kWarmup, kWarmupDecay
  double warmup_min_ratio = 0;  // kWarmupCosine, share of lr
  double cos_min_ratio = 1e-4;  // kWarmupCosine, share of lr at the end
  int64_t warmup_steps = 1000;
  int64_t total_steps = 0;
  bool linear_warmup = false;  // else logarithmic: ln(t + 1) / ln(warmup_steps)
};

class LrScheduler {
 public:
  explicit LrScheduler(const LrScheduleOptions& options) : options_(options) {}
  double AfterSteps(int64_t k) const;

 private:
  LrScheduleOptions options_;
};

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_LR_SCHEDULE_H_
