// A golden case of a function over tensors: the function as a model of one stage, so that it goes through the same
// forward and backward as training, with gradients of every input and every parameter.
//
//   GoldenFunction f;
//   f.params = ...;                                        // named as in the case, without "param."
//   f.inputs = {"x"}, f.outputs = {"y"};
//   f.forward = [](const Tensors& in, const Tensors& params) -> Tensors { ... };
//   return RunFunction(c, f);
#ifndef MILLRACE_TESTS_GOLDEN_FUNCTION_H_
#define MILLRACE_TESTS_GOLDEN_FUNCTION_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/model.h"
#include "models/rat/rose.h"
#include "tests/golden_case.h"
#include "tests/golden_stages.h"

namespace millrace {

struct GoldenFunction {
  std::vector<ParamSpec> params;
  std::vector<std::string> inputs, outputs;
  std::function<Tensors(const Tensors& inputs, const Tensors& params)> forward;
};

absl::StatusOr<GoldenOutputs> RunFunction(const GoldenCase& c, const GoldenFunction& f);

// "probe.NAME" for each name, undefined where the case has none.
absl::StatusOr<Tensors> Probes(const GoldenCase& c, const std::vector<std::string>& names);

// A number for all axes, or one per axis.
std::vector<int64_t> PerAxis(const nlohmann::json& value, int64_t axes);
// [1, scales, axes]; null: 1.
at::Tensor SpacingTensor(const nlohmann::json& spacings, int64_t scales, int64_t axes);
// The package's names for where the spacing transform starts.
absl::StatusOr<rat::SpacingStart> StartOf(const nlohmann::json& initial_scaling);

}  // namespace millrace

#endif  // MILLRACE_TESTS_GOLDEN_FUNCTION_H_
