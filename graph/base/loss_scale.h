// The loss scale of fp16 training: gradients are made larger by a power of two so that small ones do not become zero
// in 16 bits, and brought back before they are used. One that was too large shows as an infinity somewhere; the step
// is then skipped. The dynamic scale halves when that happens and doubles after a window of steps in which it did not
// (Micikevicius et al., "Mixed Precision Training", 2018), with the hysteresis of DeepSpeed's DynamicLossScaler.
//
//   LossScaleState state = StartOf(options);
//   if (UpdateLossScale(options, overflow, &state)) ...           // once a step; true: give up
//
// The state is plain numbers, so that a step's graph can hold it as a value and a checkpoint as a tensor.
#ifndef MILLRACE_GRAPH_BASE_LOSS_SCALE_H_
#define MILLRACE_GRAPH_BASE_LOSS_SCALE_H_

#include <cstdint>

#include "graph/base/host_device.h"

namespace millrace {

struct LossScaleOptions {
  bool dynamic =
      true;  // false: the scale stays as it is; steps that overflow are skipped all the same
  double initial = 65536;
  int64_t window = 1000;  // steps without overflow until the scale doubles
  int64_t hysteresis = 2;
  double min_scale = 1;
  bool consecutive_hysteresis =
      false;  // every good step restores the hysteresis, not only a whole window
  int64_t max_skips =
      10;  // overflows in a row at the smallest scale until the run gives up; 0: never
};

struct LossScaleState {
  double scale = 1;
  double hysteresis = 1;      // overflows that are still forgiven, and the one that is not
  double iteration = 0;       // steps
  double last_overflow = -1;  // iteration of the last overflow
  double skipped = 0;         // overflows in all
  double skipped_at_min = 0;  // in a row, at the smallest scale
};
// As a value of a graph: f64 [6], in this order.
constexpr int64_t kLossScaleWords = 6;
static_assert(sizeof(LossScaleState) == kLossScaleWords * sizeof(double), "");

LossScaleState StartOf(const LossScaleOptions& options);

// After a step. True: the last of max_skips overflows at the smallest scale; nothing but the counts has changed.
// Here, because devices run it, too.
MR_HOST_DEVICE inline bool UpdateLossScale(const LossScaleOptions& o, bool overflow,
                                           LossScaleState* s) {
  const auto full = static_cast<double>(o.hysteresis);
  if (overflow) {
    ++s->skipped;
    const bool lower = !o.dynamic || o.hysteresis == 1 || s->hysteresis == 1;
    if (lower && (!o.dynamic || s->scale == o.min_scale)) {
      ++s->skipped_at_min;
      if (o.max_skips > 0 && s->skipped_at_min >= static_cast<double>(o.max_skips)) return true;
    } else if (lower) {
      s->scale = s->scale / 2 > o.min_scale ? s->scale / 2 : o.min_scale;
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

#endif  // MILLRACE_GRAPH_BASE_LOSS_SCALE_H_
