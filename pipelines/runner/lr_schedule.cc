#include "pipelines/runner/lr_schedule.h"

#include <algorithm>
#include <cmath>

namespace millrace {

double LrScheduler::AfterSteps(int64_t k) const {
  using Kind = LrScheduleOptions::Kind;
  const LrScheduleOptions& o = options_;
  if (o.kind == Kind::kConstant) return o.lr;
  const bool cosine = o.kind == Kind::kWarmupCosine;
  if (k <= 0) return cosine ? 0.0 : o.warmup_min_lr;
  const int64_t t = k - 1;
  const int64_t warmup = std::max<int64_t>(2, o.warmup_steps);
  double gamma = 1;
  if (t < warmup) {
    gamma = o.linear_warmup ? static_cast<double>(t) / static_cast<double>(warmup)
                            : 1.0 / std::log(static_cast<double>(warmup)) *
                                  std::log(static_cast<double>(t + 1));
  }
  if (cosine) {
    if (t < warmup) return o.lr * (o.warmup_min_ratio + (1.0 - o.warmup_min_ratio) * gamma);
    const double progress = static_cast<double>(t - warmup + 1) /
                            static_cast<double>(std::max<int64_t>(1, o.total_steps - warmup));
    const double wave = (1.0 + std::cos(M_PI * std::min(1.0, progress))) / 2.0;
    return o.lr * std::max(0.0, o.cos_min_ratio + (1.0 - o.cos_min_ratio) * wave);
  }
  if (o.kind == Kind::kWarmupDecay && t >= warmup) {
    gamma = std::max(0.0, static_cast<double>(o.total_steps - t) /
                              static_cast<double>(std::max<int64_t>(1, o.total_steps - warmup)));
  }
  return o.warmup_min_lr + (o.lr - o.warmup_min_lr) * gamma;
}

}  // namespace millrace
