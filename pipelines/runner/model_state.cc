#include "pipelines/runner/model_state.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dist/kernels.h"
#include "graph/base/loss_scale.h"
#include "graph/ir/loss_scale_attrs.h"
#include "graph/ir/text.h"
#include "models/init.h"
#include "pipelines/runner/sha256.h"

namespace millrace {
namespace {

constexpr char kLossScale[] = "loss_scale";  // the value, and the tensor in a checkpoint

}  // namespace

ModelState ModelState::OfModel(const Plan& plan, const ModelSpec& spec,
                               std::vector<const RankBuffers*> buffers) {
  ModelState state(plan, std::move(buffers));
  struct Place {
    int32_t bucket;
    ParamSlot slot;
  };
  std::vector<Place> places;
  for (int32_t b = 0; b < static_cast<int32_t>(plan.graph.buckets().size()); ++b) {
    for (const ParamSlot& slot : plan.graph.buckets()[b].slots) places.push_back({b, slot});
  }
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    return std::tie(a.slot.stage, a.slot.param) < std::tie(b.slot.stage, b.slot.param);
  });
  const auto tensor_of = [&](const Place& place, const std::string& role) {
    const Bucket& bucket = plan.graph.buckets()[place.bucket];
    const ParamSpec& p = spec.stages[place.slot.stage].params[place.slot.param];
    Tensor t;
    t.name = role == "param" ? p.name : absl::StrCat(role, ".", p.name);
    t.shape = p.shape;
    t.numel = place.slot.numel;
    t.value = plan.graph.FindValue(absl::StrCat(role, "/", bucket.name));
    if (t.value >= 0) t.dtype = plan.graph.values()[t.value].dtype;
    if (role == "param") t.master = plan.graph.FindValue(absl::StrCat("master/", bucket.name));
    t.offset = place.slot.offset;
    t.whole = bucket.numel;
    t.init = p.init;
    return t;
  };
  for (const Place& place : places) state.params_.push_back(tensor_of(place, "param"));
  for (const char* role : {"master", "exp_avg", "exp_avg_sq", "momentum"}) {
    for (const Place& place : places) {
      Tensor t = tensor_of(place, role);
      if (t.value >= 0) state.states_.push_back(std::move(t));
    }
  }
  if (const ValueId v = plan.graph.FindValue(kLossScale); v >= 0) {
    Tensor t;
    t.name = kLossScale;
    t.dtype = plan.graph.values()[v].dtype;
    t.shape = plan.graph.values()[v].shape;
    t.numel = t.whole = plan.graph.values()[v].numel();
    t.value = v;
    state.states_.push_back(std::move(t));
  }
  return state;
}

ModelState ModelState::OfGraph(const Plan& plan, const GraphDef& text,
                               std::vector<const RankBuffers*> buffers) {
  ModelState state(plan, std::move(buffers));
  const Graph& graph = plan.graph;
  const std::vector<ParamSpec> declared = HandWrittenParameters(text);
  for (ValueId v = 0; v < static_cast<ValueId>(graph.values().size()); ++v) {
    const Value& value = graph.values()[v];
    const Buffer& buffer = graph.buffers()[value.buffer];
    if (!buffer.persistent || graph.producer(v) >= 0) continue;
    Tensor t;
    t.name = value.name;
    t.dtype = value.dtype;
    t.shape = value.shape;
    t.value = v;
    t.whole = value.numel();
    if (value.sharding == Sharding::kSharded && !t.shape.empty()) {
      t.shape[0] *= graph.group_size(value.group);
      t.whole *= graph.group_size(value.group);
    }
    t.numel = t.whole;
    if (buffer.kind == BufferKind::kParameter) {
      for (const ParamSpec& p : declared) {
        if (p.name == value.name) t.init = p.init;
      }
      state.params_.push_back(std::move(t));
    } else if (buffer.kind == BufferKind::kOptimizerState) {
      state.states_.push_back(std::move(t));
    }
  }
  return state;
}

template <typename F>
void ModelState::ForEachPart(const Tensor& t, bool all_copies, F f) const {
  const int64_t part = plan_->graph.values()[t.value].numel();
  const int64_t parts = t.whole / part;  // 1: whole on every rank
  for (int64_t r = 0; r < static_cast<int64_t>(buffers_.size()); ++r) {
    if (r >= parts && !all_copies) break;
    const int64_t first = (r % parts) * part;
    const int64_t begin = std::max(t.offset, first);
    const int64_t end = std::min(t.offset + t.numel, first + part);
    if (begin >= end) continue;
    char* shard = buffers_[r]->as<char>(t.value);
    f(shard + (begin - first) * SizeOf(t.dtype), begin - t.offset, end - begin);
  }
}

void ModelState::Read(const Tensor& tensor, void* out) const {
  const int64_t size = SizeOf(tensor.dtype);
  ForEachPart(tensor, /*all_copies=*/false, [&](char* place, int64_t first, int64_t count) {
    std::memcpy(static_cast<char*>(out) + first * size, place, count * size);
  });
}

void ModelState::Write(const Tensor& tensor, const void* in) const {
  const int64_t size = SizeOf(tensor.dtype);
  ForEachPart(tensor, /*all_copies=*/true, [&](char* place, int64_t first, int64_t count) {
    std::memcpy(place, static_cast<const char*>(in) + first * size, count * size);
  });
}

void ModelState::WriteParameter(const Tensor& parameter, const float* in) const {
  if (parameter.dtype == DType::kF32) return Write(parameter, in);
  std::vector<uint16_t> narrow(parameter.numel);
  Narrow(parameter.dtype, in, narrow.data(), parameter.numel);
  Write(parameter, narrow.data());
  if (parameter.master < 0) return;
  Tensor master = parameter;
  master.value = parameter.master;
  master.dtype = DType::kF32;
  Write(master, in);
}

void ModelState::Initialise(uint64_t seed) const {
  for (const RankBuffers* buffers : buffers_) {
    for (BufferId b = 0; b < static_cast<BufferId>(plan_->graph.buffers().size()); ++b) {
      const Buffer& buffer = plan_->graph.buffers()[b];
      if (buffer.persistent) std::memset(buffers->buffer(b), 0, buffer.bytes);
    }
  }
  for (const Node& node : plan_->graph.nodes()) {
    if (node.op != "update_loss_scale") continue;
    const LossScaleState start = StartOf(LossScaleOptionsOf(node));
    for (const RankBuffers* buffers : buffers_)
      *buffers->as<LossScaleState>(node.inputs[1]) = start;
  }
  // Every element costs a logarithm or so: all cores share the work, tensor by tensor.
  std::atomic<size_t> next{0};
  const auto work = [&] {
    std::vector<float> whole;
    for (size_t i = next++; i < params_.size(); i = next++) {
      const Tensor& t = params_[i];
      ParamSpec spec;
      spec.name = t.name;
      spec.shape = t.shape;
      spec.init = t.init;
      whole.resize(t.numel);
      FillParam(spec, seed, 0, t.numel, whole.data());
      WriteParameter(t, whole.data());
    }
  };
  std::vector<std::thread> helpers;
  for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
}

std::string ModelState::WeightsSha256() const {
  std::vector<const Tensor*> order;
  for (const Tensor& t : params_) order.push_back(&t);
  std::sort(order.begin(), order.end(),
            [](const Tensor* a, const Tensor* b) { return a->name < b->name; });
  Sha256 sha;
  std::vector<char> bytes;
  for (const Tensor* t : order) {
    bytes.resize(t->bytes());
    Read(*t, bytes.data());
    sha.Update(bytes.data(), bytes.size());
  }
  return sha.HexDigest();
}

}  // namespace millrace
