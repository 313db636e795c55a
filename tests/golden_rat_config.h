// The arguments of the public packages' grouping attention and of the whole transformer, with those packages' defaults.
#ifndef MILLRACE_TESTS_GOLDEN_RAT_CONFIG_H_
#define MILLRACE_TESTS_GOLDEN_RAT_CONFIG_H_

#include <vector>

#include "absl/status/statusor.h"
#include "models/rat/grouping_attention.h"
#include "tests/golden_function.h"

namespace millrace {

// `kernel_name`: kernel_size, or sga_kernel_size in the transformer. Dense, heads as published.
inline absl::StatusOr<rat::GroupingConfig> ReadGrouping(GoldenArgs& ctor, const char* kernel_name) {
  using Json = nlohmann::json;
  rat::GroupingConfig g;
  g.width = ctor.Get("feature_dims", int64_t{128});
  g.heads = ctor.Get("num_heads", int64_t{16});
  g.iterations = ctor.Get("iters", int64_t{3});
  g.mlp = static_cast<int64_t>(static_cast<double>(g.width) * ctor.Get("mlp_ratio", 4.0));
  g.layout = HeadLayout::kReference;
  rat::RoseConfig& r = g.rose;
  r.axes = ctor.Get("spatial_dims", int64_t{2});
  r.heads = g.heads;
  r.head_width = g.width / g.heads;
  r.ratio = ctor.Get("rotary_ratio", 0.5);
  r.learnable = ctor.Get("learnable_rose", true);
  r.learnable_spacing = ctor.Get("learnable_rose_scaling", true);
  const absl::StatusOr<rat::SpacingStart> start =
      StartOf(ctor.Get("rose_initial_scaling", Json("log")));
  if (!start.ok()) return start.status();
  r.start = *start;
  g.kernel = PerAxis(ctor.Get(kernel_name, Json(7)), r.axes);
  const Json stride = ctor.Get("stride", Json());
  if (stride.is_null()) {
    for (const int64_t k : g.kernel) g.stride.push_back(k / 2 > 1 ? k / 2 : 1);
  } else {
    g.stride = PerAxis(stride, r.axes);
  }
  return g;
}

}  // namespace millrace

#endif  // MILLRACE_TESTS_GOLDEN_RAT_CONFIG_H_
