// Kind loss_scale: traces of the dynamic loss scale against DeepSpeed's DynamicLossScaler, on patterns of overflows.
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/base/loss_scale.h"
#include "graph/base/status.h"
#include "tests/golden_case.h"

namespace millrace {
namespace {

absl::StatusOr<GoldenOutputs> RunLossScales(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const auto traces = args.Get("traces", nlohmann::json::array());
  RETURN_IF_ERROR(args.AllWereRead());
  GoldenOutputs outputs;
  for (size_t j = 0; j < traces.size(); ++j) {
    GoldenArgs one(traces[j]);
    LossScaleOptions options;
    options.initial = std::ldexp(1.0, one.Get("power", 0));
    options.window = one.Get<int64_t>("window", 1000);
    options.min_scale = one.Get("min", 1.0);
    options.hysteresis = one.Get<int64_t>("hysteresis", 1);
    options.consecutive_hysteresis = one.Get("consecutive", false);
    options.max_skips = one.Get("raise", true) ? 1 : 0;
    for (const char* how : {"pattern", "steps", "p"})
      one.Get(how, nlohmann::json());  // how the inputs were drawn
    RETURN_IF_ERROR(one.AllWereRead());
    ASSIGN_OR_RETURN(const auto overflows, c.Input(absl::StrCat("input.overflow_", j)));
    LossScaleState state = StartOf(options);
    std::vector<double> scale;
    std::vector<int64_t> hysteresis, raised;
    for (const float overflow : overflows) {
      raised.push_back(UpdateLossScale(options, overflow != 0, &state) ? 1 : 0);
      scale.push_back(state.scale);
      hysteresis.push_back(static_cast<int64_t>(state.hysteresis));
      if (raised.back() == 1) break;
    }
    const auto n = static_cast<int64_t>(scale.size());
    outputs.Put(absl::StrCat("output.scale_", j), {n}, scale.data());
    outputs.Put(absl::StrCat("output.hysteresis_", j), {n}, hysteresis.data());
    outputs.Put(absl::StrCat("output.raised_", j), {n}, raised.data());
  }
  return outputs;
}

REGISTER_GOLDEN_KIND(loss_scale, RunLossScales);

}  // namespace
}  // namespace millrace
