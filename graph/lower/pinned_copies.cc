#include "graph/lower/pinned_copies.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "graph/lower/rewriter.h"

namespace millrace {
namespace {

class Pinner {
 public:
  explicit Pinner(const Graph& graph) : graph_(graph), r_(graph) {}

  absl::StatusOr<Graph> Run() {
    for (size_t n = 0; n < graph_.nodes().size(); ++n) {
      const Node& node = graph_.nodes()[n];
      if (node.op != "copy" || node.async == AsyncRole::kDone) continue;
      const bool split = node.async == AsyncRole::kStart;
      Copy(static_cast<NodeId>(n), split ? graph_.nodes()[node.partner].outputs : node.outputs);
    }
    return std::move(r_).Finish();
  }

 private:
  Tier TierOf(ValueId v) { return r_.buffer(r_.value(v).buffer).tier; }
  void Pin(ValueId v) {
    Tier& tier = r_.buffer(r_.value(v).buffer).tier;
    if (tier == Tier::kHost) tier = Tier::kPinned;
  }

  void Copy(NodeId copy, const std::vector<ValueId>& outputs) {
    const std::vector<ValueId>& inputs = graph_.nodes()[copy].inputs;
    const std::string tail(absl::StripPrefix(graph_.nodes()[copy].name, "copy_to_device/"));
    std::vector<ValueId> stored, pinned;
    for (size_t i = 0; i < std::min(inputs.size(), outputs.size()); ++i) {
      const Tier from = TierOf(inputs[i]), to = TierOf(outputs[i]);
      if (to == Tier::kDevice) Pin(inputs[i]);
      if (from == Tier::kDevice) Pin(outputs[i]);
      if (from != Tier::kStorage || to != Tier::kDevice) continue;
      stored.push_back(inputs[i]);
      pinned.push_back(Staged(inputs[i], stored.size() == 1
                                             ? absl::StrCat("pinned/", tail)
                                             : absl::StrCat("pinned/", tail, "/", i)));
      r_.node(copy).inputs[i] = pinned.back();
    }
    if (stored.empty()) return;
    Node read{.name = absl::StrCat("read/", tail), .op = "copy"};
    for (ValueId v : stored) read.memory_bytes += 2 * r_.value(v).bytes();
    read.inputs = std::move(stored);
    read.outputs = std::move(pinned);
    std::swap(read.control, r_.node(copy).control);
    r_.InsertBefore(copy, std::move(read));
  }

  ValueId Staged(ValueId stored, std::string name) {
    Value value = r_.value(stored);
    value.name = std::move(name);
    value.own_shard = false;
    value.offset = 0;
    const ValueId v = r_.AddValueWithBuffer(std::move(value), BufferKind::kGathered);
    r_.buffer(r_.value(v).buffer).tier = Tier::kPinned;
    return v;
  }

  const Graph& graph_;
  Rewriter r_;
};

class PinnedCopiesPass final : public Pass {
 public:
  absl::string_view name() const override { return "pinned_copies"; }
  absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const override {
    if (!context.options.separate_memory) return graph;
    return Pinner(graph).Run();
  }
};

}  // namespace

std::unique_ptr<Pass> PinnedCopies() { return std::make_unique<PinnedCopiesPass>(); }

}  // namespace millrace
