#include "graph/lower/offload.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "graph/base/status.h"
#include "graph/ir/lane_kind.h"
#include "graph/lower/rewriter.h"

namespace millrace {
namespace {

bool IsUpdate(const Node& node) {
  return node.op == "adamw" || node.op == "adam" || node.op == "sgd";
}

class Offloader {
 public:
  Offloader(const Graph& graph, const LowerOptions& options)
      : graph_(graph), options_(options), offload_(options.offload), r_(graph) {}

  absl::StatusOr<Graph> Run() {
    const std::vector<bool> moved = OffloadedBuckets(graph_.buckets(), offload_.ratio);
    for (size_t b = 0; b < graph_.buffers().size(); ++b) buffer_bucket_.push_back(-1);
    for (const Value& v : graph_.values()) {
      if (v.bucket >= 0) buffer_bucket_[v.buffer] = v.bucket;
    }
    if (offload_.storage()) {
      // What the files' requests pass through. It holds nothing between operations, but is registered with the
      // kernel and so must keep its place.
      r_.AddBuffer({.name = kStorageRing,
                    .bytes = offload_.ring_bytes,
                    .tier = Tier::kHost,
                    .kind = BufferKind::kWorkspace,
                    .persistent = true});
    }
    MoveParameters(moved);
    if (options_.kind == StepKind::kTrain) {
      LastForward();
      for (const auto& [place, update] : Updates(moved)) {
        const Node& node = graph_.nodes()[update];
        RETURN_IF_ERROR(Bucket(update, static_cast<int32_t>(IntAttr(node, "bucket", -1))));
      }
    }
    if (offload_.delayed) NormsFirst();
    return std::move(r_).Finish();
  }

 private:
  BufferKind KindOf(ValueId v) const { return graph_.buffers()[graph_.values()[v].buffer].kind; }
  const std::string& NameOf(int32_t bucket) const { return graph_.buckets()[bucket].name; }

  Node Copy(std::string name, std::vector<ValueId> from, std::vector<ValueId> to) {
    Node node{.name = std::move(name), .op = "copy"};
    for (ValueId v : from) node.memory_bytes += 2 * r_.value(v).bytes();
    node.inputs = std::move(from);
    node.outputs = std::move(to);
    return node;
  }

  // A value of the type of `like` on a buffer of its own.
  ValueId NewValue(std::string name, const Value& like, BufferKind kind, Tier tier,
                   bool persistent = false) {
    Value value = like;
    value.name = std::move(name);
    value.own_shard = false;
    value.offset = 0;
    const ValueId v = r_.AddValueWithBuffer(std::move(value), kind, persistent);
    r_.buffer(r_.value(v).buffer).tier = tier;
    return v;
  }

  // The next version of a value, on the same bytes.
  ValueId Next(ValueId v) {
    Value value = r_.value(v);
    value.name += "'";
    return r_.AddValue(std::move(value));
  }

  // ---- parameters ----

  void MoveParameters(const std::vector<bool>& moved) {
    if (offload_.parameters == Tier::kDevice) return;
    for (size_t b = 0; b < graph_.buffers().size(); ++b) {
      const Buffer& buffer = graph_.buffers()[b];
      if (buffer.kind == BufferKind::kParameter && buffer_bucket_[b] >= 0 &&
          moved[buffer_bucket_[b]]) {
        r_.buffer(static_cast<BufferId>(b)).tier = offload_.parameters;
      }
    }
    for (size_t n = 0; n < graph_.nodes().size(); ++n) {
      const Node& node = graph_.nodes()[n];
      if (node.op != "all_gather" || node.inputs.empty() || node.outputs.empty()) continue;
      const Value& shard = graph_.values()[node.inputs[0]];
      if (KindOf(node.outputs[0]) != BufferKind::kGathered || shard.bucket < 0 ||
          !moved[shard.bucket]) {
        continue;
      }
      const std::string use(absl::StripPrefix(node.name, "all_gather/"));
      const auto id = static_cast<NodeId>(n);
      std::string name = absl::StrCat("copy_to_device/", use);
      if (options_.world_size == 1) {  // what is copied in is whole
        Node copy = Copy(std::move(name), node.inputs, node.outputs);
        copy.control = node.control;
        r_.node(id) = std::move(copy);
        Value& whole = r_.value(node.outputs[0]);
        whole.CopyTypeFrom(Value(r_.value(node.inputs[0])));
        continue;
      }
      const ValueId staged =
          NewValue(absl::StrCat("shard/", use), shard, BufferKind::kGathered, Tier::kDevice);
      r_.InsertBefore(id, Copy(std::move(name), node.inputs, {staged}));
      r_.node(id).inputs = {staged};
    }
  }

  // Delayed: what the updates wait for is known at the start of the step.
  void NormsFirst() {
    NodeId after = -1;
    for (NodeId n : r_.order()) {
      const Node& node = r_.node(n);
      const bool gathers_norm =
          node.op == "all_gather" && !node.outputs.empty() && r_.value(node.outputs[0]).bucket < 0;
      if (node.op != "grad_norm" && node.op != "norm_sum" && node.op != "clip_coefficient" &&
          !gathers_norm) {
        continue;
      }
      r_.MoveAfter(n, after);
      after = n;
    }
  }

  // ---- one bucket's update ----

  void LastForward() {
    for (size_t n = 0; n < graph_.nodes().size(); ++n) {
      if (graph_.nodes()[n].op == "forward") turn_ = static_cast<NodeId>(n);
    }
  }

  ValueId GradientOf(NodeId update) const {
    for (ValueId v : graph_.nodes()[update].inputs) {
      if (KindOf(v) == BufferKind::kGradient) return v;
    }
    return -1;
  }

  // Clipped, or with a loss scale: by a value over all gradients.
  bool WaitsForAll(NodeId update) const {
    const std::vector<ValueId>& inputs = graph_.nodes()[update].inputs;
    return std::any_of(inputs.begin(), inputs.end(),
                       [&](ValueId v) { return KindOf(v) == BufferKind::kMetric; });
  }

  // The updates that move, in the order in which they will stand: that of the text, or of their gradients.
  std::vector<std::pair<NodeId, NodeId>> Updates(const std::vector<bool>& moved) const {
    std::vector<std::pair<NodeId, NodeId>> updates;  // what they follow, they
    for (size_t n = 0; n < graph_.nodes().size(); ++n) {
      const Node& node = graph_.nodes()[n];
      const auto id = static_cast<NodeId>(n);
      const int64_t k = IntAttr(node, "bucket", -1);
      if (!IsUpdate(node) || k < 0 || !moved[k]) continue;
      const ValueId grad = GradientOf(id);
      const bool stays = grad < 0 || (WaitsForAll(id) && !offload_.delayed);
      updates.push_back({stays ? id : graph_.producer(grad), id});
    }
    std::sort(updates.begin(), updates.end());
    return updates;
  }

  absl::Status Bucket(NodeId update, int32_t k) {
    const Node old = graph_.nodes()[update];
    const ValueId grad = GradientOf(update);
    const bool waits_for_all = WaitsForAll(update);
    if (grad < 0 || graph_.producer(grad) < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected ", old.name, " to read a gradient that the step makes"));
    }
    const Arrival arrival = BringGradient(grad, k);
    std::vector<NodeId> chain = Update(update, k, arrival.read);
    MoveNorm(grad, arrival);
    if (offload_.delayed) {
      // Before the new gradients take the place of the old.
      for (NodeId n : chain) r_.MoveBefore(n, arrival.first);
    } else if (!waits_for_all) {
      NodeId after = arrival.last;
      for (NodeId n : chain) {
        r_.MoveAfter(n, after);
        after = n;
      }
    }
    return absl::OkStatus();
  }

  struct Arrival {
    ValueId read = -1;             // what the update reads
    NodeId first = -1, last = -1;  // nodes that write the host's gradient in this step
  };

  // This step's gradient of the bucket in host memory.
  Arrival BringGradient(ValueId grad, int32_t k) {
    const std::string name = absl::StrCat("host_grad/", NameOf(k));
    const std::vector<std::pair<NodeId, ValueId>> parts = HostParts(grad, k);
    const Value like = graph_.values()[grad];
    ValueId host = NewValue(name, like, BufferKind::kGradient, Tier::kHost, offload_.delayed);
    Arrival arrival;
    arrival.read = host;
    if (offload_.delayed) host = Next(host);
    const auto bring = [&](size_t m, ValueId to) {
      r_.buffer(graph_.values()[parts[m].second].buffer).persistent = false;
      const std::string suffix = parts.size() == 1 ? "" : absl::StrCat("/", m);
      return r_.InsertAfter(
          parts[m].first,
          Copy(absl::StrCat("copy_to_host/grad/", NameOf(k), suffix), {parts[m].second}, {to}));
    };
    arrival.first = arrival.last = bring(0, host);
    ValueId total = host;
    for (size_t m = 1; m < parts.size(); ++m) {
      const ValueId addend =
          NewValue(absl::StrCat(name, "/", m), like, BufferKind::kGradient, Tier::kHost);
      const NodeId copy = bring(m, addend);
      const NodeId add = AddNode(k, m);
      r_.MoveAfter(add, copy);
      r_.node(add).inputs = {total, addend};
      Value sum = r_.value(total);
      sum.name = absl::StrCat(name, "/sum_", m);
      total = r_.AddValue(std::move(sum));
      r_.node(add).outputs = {total};
      arrival.last = add;
    }
    if (!offload_.delayed) arrival.read = total;
    return arrival;
  }

  NodeId AddNode(int32_t k, size_t m) const {
    return graph_.FindNode(absl::StrCat("accumulate/", NameOf(k), "/", m));
  }

  // What is copied to the host, with its producers: every micro-batch's reduced gradient where they are added up
  // after the reduction, else the step's.
  std::vector<std::pair<NodeId, ValueId>> HostParts(ValueId grad, int32_t k) const {
    const NodeId producer = graph_.producer(grad);
    if (graph_.nodes()[producer].op != "accumulate") return {{producer, grad}};
    std::vector<std::pair<NodeId, ValueId>> parts;
    for (size_t m = 1;; ++m) {
      const NodeId add = AddNode(k, m);
      if (add < 0) break;
      const Node& node = graph_.nodes()[add];
      if (m == 1) parts.push_back({graph_.producer(node.inputs[0]), node.inputs[0]});
      parts.push_back({graph_.producer(node.inputs[1]), node.inputs[1]});
    }
    return parts;
  }

  // The gradient's norm is taken where the gradient now is.
  void MoveNorm(ValueId grad, const Arrival& arrival) {
    for (NodeId n : graph_.consumers(grad)) {
      if (graph_.nodes()[n].op != "grad_norm") continue;
      r_.node(n).inputs = {arrival.read};
      if (!offload_.delayed) r_.MoveAfter(n, arrival.last);
    }
  }

  // Gives the update its places on the host. The nodes that belong together, in order.
  std::vector<NodeId> Update(NodeId update, int32_t k, ValueId grad) {
    const Node old = graph_.nodes()[update];
    std::vector<ValueId> stored, staged, staged_new, stored_new;  // on storage
    std::vector<NodeId> chain = {update};
    Node node = r_.node(update);
    if (offload_.delayed) node.attrs["delay"] = int64_t{1};
    const auto stage = [&](ValueId v) {
      stored.push_back(v);
      staged.push_back(NewValue(absl::StrCat("staging/", r_.value(v).name), r_.value(v),
                                BufferKind::kOptimizerState, Tier::kHost));
      return staged.back();
    };
    const auto move = [&](ValueId in, Tier tier) {
      r_.buffer(r_.value(in).buffer).tier = tier;
      return tier == Tier::kStorage ? stage(in) : in;
    };
    // Inputs; `renewed` maps an input's old id to what the update now reads.
    std::vector<std::pair<ValueId, ValueId>> renewed;
    ValueId device_param = -1, param_copy = -1;  // where it is copied back to, and what
    for (ValueId& in : node.inputs) {
      const ValueId was = in;
      const BufferKind kind = KindOf(in);
      if (kind == BufferKind::kGradient) {
        in = grad;
      } else if (kind == BufferKind::kOptimizerState) {
        in = move(in, offload_.optimizer);
      } else if (kind == BufferKind::kParameter && offload_.parameters != Tier::kDevice) {
        in = move(in, offload_.parameters);
      } else if (kind == BufferKind::kParameter) {
        const ValueId master = NewValue(absl::StrCat("master/", NameOf(k)), r_.value(in),
                                        BufferKind::kOptimizerState, offload_.optimizer, true);
        in = offload_.optimizer == Tier::kStorage ? stage(master) : master;
      }
      renewed.push_back({was, in});
    }
    for (ValueId& out : node.outputs) {
      const ValueId was = out;
      const BufferKind kind = KindOf(out);
      const ValueId in = InPlaceOf(was, old, renewed);
      const auto in_staging = std::find(staged.begin(), staged.end(), in);
      if (kind == BufferKind::kParameter && offload_.parameters == Tier::kDevice) {
        device_param = was;
        out = in >= 0 ? Next(in)
                      : NewValue(absl::StrCat("staging/param/", NameOf(k)), r_.value(was),
                                 BufferKind::kParameter, Tier::kHost);
        if (in_staging != staged.end()) {
          // The master on storage: its next version is made here.
          staged_new.push_back(out);
          stored_new.push_back(Next(stored[in_staging - staged.begin()]));
        }
        param_copy = out;
      } else if (in_staging != staged.end()) {
        out = Next(in);
        staged_new.push_back(out);
        stored_new.push_back(was);
      } else if (in < 0 && kind == BufferKind::kParameter &&
                 offload_.parameters == Tier::kStorage) {
        out = NewValue(absl::StrCat("staging/param/", NameOf(k)), r_.value(was),
                       BufferKind::kParameter, Tier::kHost);
        staged_new.push_back(out);
        stored_new.push_back(was);
      }
    }
    r_.node(update) = std::move(node);
    if (device_param >= 0) {
      chain.push_back(r_.InsertAfter(update, Copy(absl::StrCat("copy_to_device/param/", NameOf(k)),
                                                  {param_copy}, {device_param})));
    }
    if (staged_new.empty() && staged.empty()) return chain;
    Stage(k, update, std::move(stored), std::move(staged), std::move(staged_new),
          std::move(stored_new), &chain);
    return chain;
  }

  // Nodes that bring the states from storage and back.
  void Stage(int32_t k, NodeId update, std::vector<ValueId> stored, std::vector<ValueId> staged,
             std::vector<ValueId> staged_new, std::vector<ValueId> stored_new,
             std::vector<NodeId>* chain) {
    NodeId first = update;
    if (!staged.empty()) {
      first = r_.InsertBefore(
          update, Copy(absl::StrCat("read/", NameOf(k)), std::move(stored), std::move(staged)));
      chain->insert(chain->begin(), first);
    }
    const NodeId write = r_.InsertAfter(update, Copy(absl::StrCat("write/", NameOf(k)),
                                                     std::move(staged_new), std::move(stored_new)));
    chain->push_back(write);
    const auto window = static_cast<size_t>(offload_.staging_buckets);
    if (writes_.size() >= window) {
      r_.node(first).control.push_back(writes_[writes_.size() - window]);
    } else if (first != update && turn_ >= 0 && !offload_.delayed) {
      r_.node(first).control.push_back(turn_);  // not before the memory of forward is needed
    }
    writes_.push_back(write);
  }

  // What the update reads where it writes `out`: the input on the same bytes.
  ValueId InPlaceOf(ValueId out, const Node& old,
                    const std::vector<std::pair<ValueId, ValueId>>& renewed) const {
    const Value& value = graph_.values()[out];
    for (size_t i = 0; i < old.inputs.size(); ++i) {
      const Value& in = graph_.values()[old.inputs[i]];
      if (in.buffer == value.buffer && in.offset == value.offset && in.own_shard == value.own_shard)
        return renewed[i].second;
    }
    return -1;
  }

  const Graph& graph_;
  const LowerOptions& options_;
  const OffloadOptions& offload_;
  Rewriter r_;
  std::vector<int32_t> buffer_bucket_;  // per buffer, -1: none
  std::vector<NodeId> writes_;          // of the buckets so far
  NodeId turn_ = -1;                    // the step's last forward
};

class OffloadPass final : public Pass {
 public:
  absl::string_view name() const override { return "offload"; }
  absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const override {
    if (!context.options.offload.any()) return graph;
    return Offloader(graph, context.options).Run();
  }
};

}  // namespace

std::vector<bool> OffloadedBuckets(const std::vector<Bucket>& buckets, double ratio) {
  int64_t all = 0, taken = 0;
  for (const Bucket& b : buckets) all += b.numel;
  std::vector<bool> moved;
  for (const Bucket& b : buckets) {
    moved.push_back(static_cast<double>(taken) < ratio * static_cast<double>(all));
    if (moved.back()) taken += b.numel;
  }
  return moved;
}

std::unique_ptr<Pass> OffloadState() { return std::make_unique<OffloadPass>(); }

}  // namespace millrace
