#include "ops/cuda/optimizer.h"

namespace millrace {
namespace cuda {
namespace {

template <typename Scalars>
OptimizerScalars Make(Scalars s, bool apply) {
  OptimizerScalars out;
  out.apply = apply ? 1 : 0;
  if (!apply) return out;
  out.constants = ConstantsOf(s);
  s.weight_decay = 0;
  out.no_decay = ConstantsOf(s).decay;
  return out;
}

}  // namespace

OptimizerScalars ScalarsOf(AdamScalars s, int64_t update, int64_t delay) {
  s.step = update - delay;
  return Make(s, update > delay);
}

OptimizerScalars ScalarsOf(const SgdScalars& s, int64_t update, int64_t delay) {
  return Make(s, update > delay);
}

}  // namespace cuda
}  // namespace millrace
