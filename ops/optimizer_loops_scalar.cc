// The optimizers' loops for every processor: one element at a time, or what the compiler makes of it.
#include "ops/optimizer_loops-inl.h"

namespace millrace {

UpdateFn ScalarUpdate(Rule rule, Format grad, Format copy) {
  return PickUpdate<Scalar>(rule, grad, copy);
}

}  // namespace millrace
