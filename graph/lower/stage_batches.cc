#include "graph/lower/stage_batches.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "graph/lower/rewriter.h"

namespace millrace {
namespace {

class Stager {
 public:
  explicit Stager(const Graph& graph) : graph_(graph), r_(graph) {}

  absl::StatusOr<Graph> Run() {
    for (size_t n = 0; n < graph_.nodes().size(); ++n) {
      const auto id = static_cast<NodeId>(n);
      const Node& node = graph_.nodes()[n];
      if (RunsStage(node)) stages_.push_back(id);
      const bool loads = node.op == "load_batch" && node.async == AsyncRole::kNone;
      if (loads && OnDevice(node)) Load(id);
    }
    return std::move(r_).Finish();
  }

 private:
  bool OnDevice(const Node& load) const {
    return std::any_of(load.outputs.begin(), load.outputs.end(), [&](ValueId v) {
      return graph_.buffers()[graph_.values()[v].buffer].tier == Tier::kDevice;
    });
  }

  void Load(NodeId load) {
    const Node& old = graph_.nodes()[load];
    const std::string tail(absl::StripPrefix(old.name, "load_batch/"));
    Node copy{.name = absl::StrCat("copy_to_device/batch/", tail), .op = "copy"};
    copy.outputs = old.outputs;
    for (ValueId v : old.outputs) {
      copy.inputs.push_back(Pinned(v));
      copy.memory_bytes += 2 * graph_.values()[v].bytes();
    }
    r_.node(load).outputs = copy.inputs;
    if (stages_.empty() || copy_ < 0) {  // the step's first: nothing runs yet that could hide it
      copy_ = r_.InsertAfter(load, std::move(copy));
      return;
    }
    // Early, but for the stage that runs last before the batch is needed: the device's memory is not held for longer.
    HandOver(load);
    r_.node(load).control = {copy_};
    r_.MoveAfter(load, copy_);
    if (stages_.size() > 1) copy.control = {stages_[stages_.size() - 2]};
    copy_ = r_.InsertBefore(stages_.back(), std::move(copy));
  }

  // What a later batch waited for so that its work comes behind that of the one before.
  void HandOver(NodeId load) {
    std::set<NodeId> readers;
    for (ValueId v : graph_.nodes()[load].outputs) {
      for (NodeId reader : graph_.consumers(v)) readers.insert(reader);
    }
    for (NodeId reader : readers) {
      if (BehindAStage(graph_.nodes()[reader])) continue;
      for (NodeId c : graph_.nodes()[load].control) r_.node(reader).control.push_back(c);
    }
  }

  // Of the same batch, and so behind what that stage waits for.
  bool BehindAStage(const Node& node) const {
    return std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) {
      return graph_.producer(v) >= 0 && RunsStage(graph_.nodes()[graph_.producer(v)]);
    });
  }

  ValueId Pinned(ValueId v) {
    const Value& on_device = graph_.values()[v];
    Value value;
    value.CopyTypeFrom(on_device);
    value.name = absl::StrCat("host_batch/", on_device.name);
    const ValueId pinned = r_.AddValueWithBuffer(std::move(value), BufferKind::kInput);
    r_.buffer(r_.value(pinned).buffer).tier = Tier::kPinned;
    return pinned;
  }

  const Graph& graph_;
  Rewriter r_;
  std::vector<NodeId> stages_;  // what runs a stage, in the order of the text
  NodeId copy_ = -1;            // of the batch before
};

class StageBatchesPass final : public Pass {
 public:
  absl::string_view name() const override { return "stage_batches"; }
  absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const override {
    if (!context.options.separate_memory) return graph;
    return Stager(graph).Run();
  }
};

}  // namespace

std::unique_ptr<Pass> StageBatches() { return std::make_unique<StageBatchesPass>(); }

}  // namespace millrace
