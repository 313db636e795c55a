#include "pipelines/runner/model_state.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/ir/text.h"
#include "models/init.h"
#include "pipelines/runner/sha256.h"

namespace millrace {

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
    t.offset = place.slot.offset;
    t.whole = bucket.numel;
    t.init = p.init;
    if (role == "param") t.master = plan.graph.FindValue(absl::StrCat("master/", bucket.name));
    return t;
  };
  for (const Place& place : places) state.params_.push_back(tensor_of(place, "param"));
  for (const char* role : {"exp_avg", "exp_avg_sq", "momentum", "host_grad"}) {
    for (const Place& place : places) {
      Tensor t = tensor_of(place, role);
      // Gradients that wait for the next step's update are a state; others are gone with the step.
      const auto persists = [&](ValueId v) {
        return plan.graph.buffers()[plan.graph.values()[v].buffer].persistent;
      };
      if (t.value >= 0 && persists(t.value)) state.states_.push_back(std::move(t));
    }
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
void ModelState::ForEachPart(const Tensor& t, ValueId value, bool all_copies, F f) const {
  const int64_t part = plan_->graph.values()[value].numel();
  const int64_t parts = t.whole / part;  // 1: whole on every rank
  for (int64_t r = 0; r < static_cast<int64_t>(buffers_.size()); ++r) {
    if (r >= parts && !all_copies) break;
    const int64_t first = (r % parts) * part;
    const int64_t begin = std::max(t.offset, first);
    const int64_t end = std::min(t.offset + t.numel, first + part);
    if (begin < end)
      f(buffers_[r]->as<float>(value) + (begin - first), begin - t.offset, end - begin);
  }
}

void ModelState::Read(const Tensor& tensor, float* out) const {
  ForEachPart(tensor, tensor.value, /*all_copies=*/false,
              [&](const float* place, int64_t first, int64_t count) {
                std::memcpy(out + first, place, count * sizeof(float));
              });
}

void ModelState::Write(const Tensor& tensor, const float* in) const {
  for (ValueId value : {tensor.value, tensor.master}) {
    if (value < 0) continue;
    ForEachPart(tensor, value, /*all_copies=*/true,
                [&](float* place, int64_t first, int64_t count) {
                  std::memcpy(place, in + first, count * sizeof(float));
                });
  }
}

void ModelState::Initialise(uint64_t seed) const {
  for (const RankBuffers* buffers : buffers_) {
    for (BufferId b = 0; b < static_cast<BufferId>(plan_->graph.buffers().size()); ++b) {
      const Buffer& buffer = plan_->graph.buffers()[b];
      if (buffer.persistent) std::memset(buffers->buffer(b), 0, buffer.bytes);
    }
  }
  // Every element costs a logarithm or so: all cores share the work, tensor by tensor.
  std::atomic<size_t> next{0};
  const auto work = [&] {
    std::vector<float> whole;
    for (size_t i = next++; i < params_.size(); i = next++)
      InitialiseTensor(params_[i], seed, &whole);
  };
  std::vector<std::thread> helpers;
  for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
}

void ModelState::InitialiseTensor(const Tensor& t, uint64_t seed, std::vector<float>* whole) const {
  ParamSpec spec;
  spec.name = t.name;
  spec.shape = t.shape;
  spec.init = t.init;
  // The same on every rank: made once.
  if (t.whole == plan_->graph.values()[t.value].numel()) {
    whole->resize(t.numel);
    FillParam(spec, seed, 0, t.numel, whole->data());
    Write(t, whole->data());
    return;
  }
  for (ValueId value : {t.value, t.master}) {
    if (value < 0) continue;
    ForEachPart(t, value, /*all_copies=*/true, [&](float* place, int64_t first, int64_t count) {
      FillParam(spec, seed, first, first + count, place);
    });
  }
}

std::string ModelState::WeightsSha256() const {
  std::vector<const Tensor*> order;
  for (const Tensor& t : params_) order.push_back(&t);
  std::sort(order.begin(), order.end(),
            [](const Tensor* a, const Tensor* b) { return a->name < b->name; });
  Sha256 sha;
  std::vector<float> bytes;
  for (const Tensor* t : order) {
    bytes.resize(t->numel);
    Read(*t, bytes.data());
    sha.Update(bytes.data(), bytes.size() * sizeof(float));
  }
  return sha.HexDigest();
}

}  // namespace millrace
