#include "pipelines/runner/evaluator.h"

#include <vector>

#include "graph/base/status.h"
#include "pipelines/runner/scores.h"

namespace millrace {
namespace {

struct Values {
  std::vector<ValueId> batch, outputs;
};

// The batch's tensors and the last stage's outputs in `plan`. Both can be read after a step: outputs live to its end,
// and what the last stage reads, nothing runs after it to overwrite.
absl::StatusOr<Values> FindValues(const Plan& plan, const ModelSpec& spec) {
  Values values;
  const auto first = [](const std::vector<ValueId>& all, size_t n) {
    return std::vector<ValueId>(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n));
  };
  const Graph& graph = plan.graph;
  for (const Node& node : graph.nodes()) {
    if (node.op != "load_batch" || node.async == AsyncRole::kStart) continue;
    values.batch = first(node.outputs, spec.batch.size());
  }
  const ValueId loss = graph.FindValue("loss/0");
  if (values.batch.empty() || loss < 0) {
    return absl::InternalError("the evaluation plan has no batch or no loss");
  }
  const Node& head = graph.nodes()[static_cast<size_t>(graph.producer(loss))];
  values.outputs = first(head.outputs, spec.stages.back().outputs.size());
  return values;
}

}  // namespace

absl::StatusOr<EvalMetrics> EvaluateOnce(Ranks& ranks, const Plan& plan, const ModelDef& model,
                                         const ModelSpec& spec, EvalBatches* batches) {
  ASSIGN_OR_RETURN(const Values values, FindValues(plan, spec));
  ASSIGN_OR_RETURN(const auto scores, Scores::Create(model.task, spec, batches->truth()));
  batches->Restart();
  // What lies in a device's memory is scored from a copy.
  std::vector<std::vector<char>> copies(values.batch.size() + values.outputs.size());
  const auto within_reach = [&](const RankBuffers& buffers, ValueId v,
                                std::vector<char>* copy) -> absl::StatusOr<const void*> {
    if (buffers.on_host(v)) return buffers.data(v);
    copy->resize(buffers.bytes(v));
    RETURN_IF_ERROR(buffers.Read(v, copy->data()));
    return copy->data();
  };
  for (int64_t step = 0; step < batches->steps(); ++step) {
    RETURN_IF_ERROR(Annotate(ranks.RunStep(step, StepScalars()), "evaluation"));
    for (int r = 0; r < ranks.size(); ++r) {
      ScoredBatch batch;
      batch.samples = batches->samples(r);
      auto copy = copies.begin();
      for (const ValueId v : values.batch) {
        ASSIGN_OR_RETURN(const void* p, within_reach(ranks.buffers(r), v, &*copy++));
        batch.tensors.push_back(p);
      }
      for (const ValueId v : values.outputs) {
        ASSIGN_OR_RETURN(const void* p, within_reach(ranks.buffers(r), v, &*copy++));
        batch.outputs.push_back(p);
      }
      RETURN_IF_ERROR(scores->Add(batch));
    }
  }
  EvalMetrics m = scores->Result();
  if (m.samples == 0) return absl::FailedPreconditionError("the evaluation data holds no sample");
  return m;
}

}  // namespace millrace
