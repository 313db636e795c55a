#include "graph/base/loss_scale.h"

namespace millrace {

LossScaleState StartOf(const LossScaleOptions& options) {
  LossScaleState state;
  state.scale = options.initial;
  state.hysteresis = static_cast<double>(options.hysteresis);
  return state;
}

}  // namespace millrace
