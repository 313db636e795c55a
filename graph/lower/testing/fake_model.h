// A model that exists on paper only: a chain of stages with a few parameters each, for tests of lowering,
// planning, verification and simulation.
//
//   ModelSpec spec = MakeFakeModel({.stages = 3});            // a, b, c
//   ASSIGN_OR_RETURN(Graph step, Lower(spec, options));
#ifndef MILLRACE_GRAPH_LOWER_TESTING_FAKE_MODEL_H_
#define MILLRACE_GRAPH_LOWER_TESTING_FAKE_MODEL_H_

#include <string>
#include <vector>

#include "graph/ir/model_spec.h"

namespace millrace {

struct FakeModelOptions {
  int stages = 3;
  // Shapes of every stage's parameters; the names are "<stage>.p0", "<stage>.p1", ...
  std::vector<std::vector<int64_t>> params = {{8, 4}, {5}};
  DType dtype = DType::kF32;  // of parameters and boundary tensors
  int64_t batch = 2;
  int64_t width = 16;  // elements of a boundary tensor per sample
  int64_t saved_bytes = 1024;
  int64_t workspace_bytes = 0;  // of forward; backward has twice as much
  int64_t flops = 1000000;      // of forward; backward has twice as many
  int64_t memory_bytes = 10000;
  // The first stage has a second output, which the last stage reads, and every stage's last parameter is a running
  // statistic.
  bool skip_and_statistics = false;
};

// Stages are named a, b, c, ..., then s26, s27, ...
inline ModelSpec MakeFakeModel(const FakeModelOptions& o = {}) {
  ModelSpec spec;
  spec.name = "fake";
  spec.batch = {{"images", DType::kF32, {o.batch, 1, 4, 4}}, {"labels", DType::kI64, {o.batch}}};
  for (int s = 0; s < o.stages; ++s) {
    StageSpec stage;
    stage.name = s < 26 ? std::string(1, static_cast<char>('a' + s)) : "s" + std::to_string(s);
    stage.class_key = s == 0 ? "first" : s == o.stages - 1 ? "last" : "middle";
    for (size_t i = 0; i < o.params.size(); ++i) {
      stage.params.push_back({stage.name + ".p" + std::to_string(i), o.params[i], o.dtype});
    }
    if (s == 0) stage.batch.push_back(0);
    if (s == o.stages - 1) stage.batch.push_back(1);
    if (s > 0) {
      stage.inputs = {spec.stages.back().outputs[0]};
      stage.sources = {{s - 1, 0}};
    }
    if (s == o.stages - 1) {
      stage.outputs = {{"loss", DType::kF32, {}}, {"logits", DType::kF32, {o.batch, 10}}};
    } else {
      stage.outputs = {{"y", o.dtype, {o.batch, o.width}}};
    }
    stage.saved_bytes = o.saved_bytes;
    stage.forward.workspace_bytes = o.workspace_bytes;
    stage.backward.workspace_bytes = 2 * o.workspace_bytes;
    stage.evaluate.workspace_bytes = o.workspace_bytes;
    stage.forward_flops = o.flops;
    stage.backward_flops = 2 * o.flops;
    stage.forward_bytes = o.memory_bytes;
    stage.backward_bytes = 2 * o.memory_bytes;
    if (o.skip_and_statistics && !stage.params.empty()) stage.params.back().statistic = true;
    spec.stages.push_back(stage);
  }
  if (o.skip_and_statistics) {
    spec.stages[0].outputs.push_back({"skip", o.dtype, {o.batch, o.width / 2}});
    spec.stages.back().inputs.push_back(spec.stages[0].outputs[1]);
    spec.stages.back().sources.push_back({0, 1});
  }
  return spec;
}

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_TESTING_FAKE_MODEL_H_
