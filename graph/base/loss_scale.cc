#include "graph/base/loss_scale.h"

#include <algorithm>

namespace millrace {

LossScaleState StartOf(const LossScaleOptions& options) {
  LossScaleState state;
  state.scale = options.initial;
  state.hysteresis = static_cast<double>(options.hysteresis);
  return state;
}

bool UpdateLossScale(const LossScaleOptions& o, bool overflow, LossScaleState* s) {
  const auto full = static_cast<double>(o.hysteresis);
  if (overflow) {
    ++s->skipped;
    const bool lower = !o.dynamic || o.hysteresis == 1 || s->hysteresis == 1;
    if (lower && (!o.dynamic || s->scale == o.min_scale)) {
      ++s->skipped_at_min;
      if (o.max_skips > 0 && s->skipped_at_min >= static_cast<double>(o.max_skips)) return true;
    } else if (lower) {
      s->scale = std::max(s->scale / 2, o.min_scale);
    } else {
      --s->hysteresis;
    }
    s->last_overflow = s->iteration;
  } else {
    s->skipped_at_min = 0;
    if (o.consecutive_hysteresis) s->hysteresis = full;
    const auto good = static_cast<int64_t>(s->iteration - s->last_overflow) - 1;
    if (o.dynamic && good > 0 && good % o.window == 0) {
      if (!o.consecutive_hysteresis) s->hysteresis = full;
      s->scale *= 2;
    }
  }
  ++s->iteration;
  return false;
}

}  // namespace millrace
