// First values of parameters, element by element: a pure function of the seed, the parameter's name and
// the element's index. A rank that owns a shard fills its shard and is equal to one that filled the whole.
//
//   FillParam(spec, /*seed=*/1, /*begin=*/shard * n, /*end=*/(shard + 1) * n, out);
//
// Thread-safe.
#ifndef MILLRACE_MODELS_INIT_H_
#define MILLRACE_MODELS_INIT_H_

#include <cstdint>

#include "graph/ir/model_spec.h"

namespace millrace {

// Writes elements [begin, end) to out[0 .. end - begin). Elements beyond the parameter's size are 0: a
// shard may end in padding.
void FillParam(const ParamSpec& spec, uint64_t seed, int64_t begin, int64_t end, float* out);

}  // namespace millrace

#endif  // MILLRACE_MODELS_INIT_H_
