#include "pipelines/runner/model_state.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dist/kernels.h"
#include "graph/base/loss_scale.h"
#include "graph/base/status.h"
#include "graph/ir/loss_scale_attrs.h"
#include "graph/ir/text.h"
#include "models/init.h"
#include "pipelines/runner/sha256.h"

namespace millrace {
namespace {

constexpr char kLossScale[] = "loss_scale";  // the value, and the tensor in a checkpoint

}  // namespace

ModelState ModelState::OfModel(const Plan& plan, const ModelSpec& spec,
                               std::vector<const RankBuffers*> buffers,
                               std::vector<StorageFile*> files) {
  ModelState state(plan, std::move(buffers), std::move(files));
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
  for (const char* role : {"master", "exp_avg", "exp_avg_sq", "momentum", "host_grad"}) {
    for (const Place& place : places) {
      Tensor t = tensor_of(place, role);
      // Gradients that wait for the next step's update are a state; others are gone with the step.
      const auto persists = [&](ValueId v) {
        return plan.graph.buffers()[plan.graph.values()[v].buffer].persistent;
      };
      // A master in f32 beside a parameter in f32 is the parameter.
      const ParamSpec& p = spec.stages[place.slot.stage].params[place.slot.param];
      if (absl::string_view(role) == "master" && p.dtype == DType::kF32) continue;
      if (t.value >= 0 && persists(t.value)) state.states_.push_back(std::move(t));
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
  ModelState state(plan, std::move(buffers), {});
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

// A reader needs one copy of each part, a writer all of them.
template <typename F>
absl::Status ModelState::ForEachPart(const Tensor& t, ValueId value, bool change, F f) const {
  const int64_t part = plan_->graph.values()[value].numel();
  const int64_t parts = t.whole / part;  // 1: whole on every rank
  const auto ranks = static_cast<int64_t>(memory_->buffers().size());
  for (int64_t r = 0; r < ranks; ++r) {
    if (r >= parts && !change) break;
    const int64_t first = (r % parts) * part;
    const int64_t begin = std::max(t.offset, first);
    const int64_t end = std::min(t.offset + t.numel, first + part);
    if (begin >= end) continue;
    ASSIGN_OR_RETURN(char* const place, memory_->At(static_cast<int>(r), value, change));
    const int64_t size = SizeOf(plan_->graph.values()[value].dtype);
    f(place + (begin - first) * size, begin - t.offset, end - begin);
  }
  return absl::OkStatus();
}

absl::Status ModelState::Read(const Tensor& tensor, void* out) const {
  const int64_t size = SizeOf(tensor.dtype);
  return ForEachPart(tensor, tensor.value, /*change=*/false,
                     [&](const char* place, int64_t first, int64_t count) {
                       std::memcpy(static_cast<char*>(out) + first * size, place, count * size);
                     });
}

absl::Status ModelState::WriteTo(const Tensor& tensor, ValueId value, const void* in) const {
  const int64_t size = SizeOf(plan_->graph.values()[value].dtype);
  return ForEachPart(
      tensor, value, /*change=*/true, [&](char* place, int64_t first, int64_t count) {
        std::memcpy(place, static_cast<const char*>(in) + first * size, count * size);
      });
}

absl::Status ModelState::Write(const Tensor& tensor, const void* in) const {
  RETURN_IF_ERROR(WriteTo(tensor, tensor.value, in));
  if (tensor.master < 0 || tensor.dtype != DType::kF32) return absl::OkStatus();
  return WriteTo(tensor, tensor.master, in);
}

absl::Status ModelState::WriteParameter(const Tensor& parameter, const float* in) const {
  if (parameter.dtype == DType::kF32) return Write(parameter, in);
  std::vector<uint16_t> narrow(parameter.numel);
  Narrow(parameter.dtype, in, narrow.data(), parameter.numel);
  RETURN_IF_ERROR(WriteTo(parameter, parameter.value, narrow.data()));
  return parameter.master < 0 ? absl::OkStatus() : WriteTo(parameter, parameter.master, in);
}

// Every element costs a logarithm or so: a large tensor is filled by all cores.
void FillByAllCores(const ParamSpec& spec, uint64_t seed, int64_t begin, int64_t end, float* out) {
  constexpr int64_t kLeast = 1 << 18;
  const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
  const int64_t parts = std::min(cores, (end - begin) / kLeast + 1);
  const auto first = [&](int64_t part) { return begin + (end - begin) * part / parts; };
  std::vector<std::thread> helpers;
  for (int64_t p = 1; p < parts; ++p) {
    helpers.emplace_back(
        [&, p] { FillParam(spec, seed, first(p), first(p + 1), out + (first(p) - begin)); });
  }
  FillParam(spec, seed, first(0), first(1), out);
  for (std::thread& helper : helpers) helper.join();
}

absl::Status ModelState::Initialise(uint64_t seed) const {
  RETURN_IF_ERROR(memory_->Zero());
  for (const Node& node : plan_->graph.nodes()) {
    if (node.op != "update_loss_scale") continue;
    const LossScaleState start = StartOf(LossScaleOptionsOf(node));
    for (const RankBuffers* buffers : memory_->buffers()) {
      RETURN_IF_ERROR(buffers->Write(node.inputs[1], &start));
    }
  }
  std::vector<float> whole;
  for (const Tensor& t : params_) RETURN_IF_ERROR(InitialiseTensor(t, seed, &whole));
  return memory_->Close();
}

absl::Status ModelState::InitialiseTensor(const Tensor& t, uint64_t seed,
                                          std::vector<float>* whole) const {
  ParamSpec spec;
  spec.name = t.name;
  spec.shape = t.shape;
  spec.init = t.init;
  // The same on every rank, or in two places: made once.
  if (t.master >= 0 || t.dtype != DType::kF32 ||
      t.whole == plan_->graph.values()[t.value].numel()) {
    whole->resize(t.numel);
    FillByAllCores(spec, seed, 0, t.numel, whole->data());
    return WriteParameter(t, whole->data());
  }
  return ForEachPart(t, t.value, /*change=*/true, [&](char* place, int64_t first, int64_t count) {
    FillByAllCores(spec, seed, first, first + count, reinterpret_cast<float*>(place));
  });
}

absl::StatusOr<std::string> ModelState::WeightsSha256() const {
  std::vector<const Tensor*> order;
  for (const Tensor& t : params_) order.push_back(&t);
  std::sort(order.begin(), order.end(),
            [](const Tensor* a, const Tensor* b) { return a->name < b->name; });
  Sha256 sha;
  std::vector<char> bytes;
  for (const Tensor* t : order) {
    bytes.resize(t->bytes());
    RETURN_IF_ERROR(Read(*t, bytes.data()));
    sha.Update(bytes.data(), bytes.size());
  }
  RETURN_IF_ERROR(memory_->Close());
  return sha.HexDigest();
}

}  // namespace millrace
