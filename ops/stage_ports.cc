#include "ops/stage_ports.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ops/model_runtime.h"
#include "ops/torch_bridge.h"

namespace millrace {
namespace {

BufferKind KindOf(const KernelArgs& a, const Value& v) {
  return a.plan.graph.buffers()[v.buffer].kind;
}

// Fills `places` with the addresses of the stage's parameters that lie in `value`'s bucket.
void PlaceParams(const KernelArgs& a, const Value& value, int stage, std::vector<void*>* places) {
  char* bucket = static_cast<char*>(a.buffers.buffer(value.buffer));
  for (const ParamSlot& slot : a.plan.graph.buckets()[value.bucket].slots) {
    if (slot.stage == stage) (*places)[slot.param] = bucket + slot.offset * SizeOf(value.dtype);
  }
}

// The bytes of a gradient slice that no parameter covers. They are summed, normed and updated like all others,
// and a transient bucket lies in memory that held something else: they must be made zero.
void FindGaps(const KernelArgs& a, const Value& slice, int stage, StagePorts* p) {
  char* bucket = static_cast<char*>(a.buffers.buffer(slice.buffer));
  std::vector<std::pair<int64_t, int64_t>> covered;
  for (const ParamSlot& slot : a.plan.graph.buckets()[slice.bucket].slots) {
    if (slot.stage == stage)
      covered.push_back({slot.offset * SizeOf(slice.dtype), slot.numel * SizeOf(slice.dtype)});
  }
  std::sort(covered.begin(), covered.end());
  int64_t end = slice.offset;
  for (const auto& [begin, bytes] : covered) {
    if (begin > end) p->gaps.push_back({bucket + end, begin - end});
    end = begin + bytes;
  }
  if (slice.offset + slice.bytes() > end)
    p->gaps.push_back({bucket + end, slice.offset + slice.bytes() - end});
}

}  // namespace

absl::StatusOr<StagePorts> ReadStagePorts(const KernelArgs& a, bool backward) {
  if (a.rank.model == nullptr) return absl::FailedPreconditionError("the pipeline has no model");
  StagePorts p;
  p.stage = static_cast<int>(IntAttr(a.node(), "stage", 0));
  p.micro_batch = IntAttr(a.node(), "micro_batch", 0);
  const StageSpec& spec = a.rank.model->spec(p.stage);
  const size_t boundary = spec.inputs.size() + spec.batch.size();
  p.params.resize(spec.params.size());
  for (int i = 0; i < a.inputs(); ++i) {
    const Value& v = a.input(i);
    if (v.bucket >= 0) {
      PlaceParams(a, v, p.stage, &p.params);
    } else if (KindOf(a, v) == BufferKind::kSaved) {
      p.saved = a.In<void>(i);
    } else if (KindOf(a, v) == BufferKind::kOptimizerState) {
      p.loss_scale = a.In<LossScaleState>(i);
    } else if (p.inputs.size() < boundary) {
      p.inputs.push_back(&v);
      p.input_data.push_back(a.In<void>(i));
    } else {
      p.grad_outputs.push_back(&v);
      p.grad_output_data.push_back(a.In<void>(i));
    }
  }
  if (backward) p.param_grads.resize(spec.params.size());
  for (int i = 0; i < a.outputs(); ++i) {
    const Value& v = a.output(i);
    const BufferKind kind = KindOf(a, v);
    if (backward && v.bucket >= 0) {
      PlaceParams(a, v, p.stage, &p.param_grads);
      FindGaps(a, v, p.stage, &p);
    } else if (kind == BufferKind::kSaved) {
      p.saved = a.Out<void>(i);
    } else if (kind == BufferKind::kWorkspace) {
      p.workspace = a.Out<void>(i);
    } else {
      p.outputs.push_back(a.Out<void>(i));
    }
  }
  for (const std::vector<void*>* places : {&p.params, &p.param_grads}) {
    for (size_t i = 0; i < places->size(); ++i) {
      if ((*places)[i] == nullptr) {
        return absl::InvalidArgumentError(absl::StrCat(
            "no value holds parameter '", spec.params[i].name, "' of stage '", spec.name, "'"));
      }
    }
  }
  return p;
}

void PutAt(const at::Tensor& t, void* place, const TensorSpec& spec, at::Device device) {
  if (t.defined() && t.data_ptr() == place && t.is_contiguous()) return;
  if (!t.defined() && device.is_cpu()) {
    std::memset(place, 0, spec.bytes());
    return;
  }
  const at::Tensor there = AsTensor(place, spec.dtype, spec.shape, device);
  t.defined() ? there.copy_(t) : there.zero_();
}

}  // namespace millrace
