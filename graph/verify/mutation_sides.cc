// Damage to plans whose devices have memory of their own: work that reaches for the other side's.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/verify/mutation_tools.h"

namespace millrace {
namespace mutation_internal {
namespace {

struct Crossing {
  NodeId copy = -1;  // its half that has the inputs
  ValueId from = -1, to = -1;
  bool to_device = false;
};

// What is copied between device and pinned memory.
std::vector<Crossing> Crossings(const Plan& plan) {
  std::vector<Crossing> crossings;
  if (!plan.separate_memory) return crossings;
  const Graph& g = plan.graph;
  const auto tier = [&](ValueId v) { return g.buffers()[g.values()[v].buffer].tier; };
  for (size_t i = 0; i < g.nodes().size(); ++i) {
    const auto n = static_cast<NodeId>(i);
    const Node& node = g.nodes()[i];
    if (node.op != "copy" || node.async == AsyncRole::kDone) continue;
    const std::vector<ValueId>& outputs = g.nodes()[EndOf(g, n)].outputs;
    for (size_t k = 0; k < std::min(node.inputs.size(), outputs.size()); ++k) {
      const bool in = tier(node.inputs[k]) == Tier::kDevice,
                 out = tier(outputs[k]) == Tier::kDevice;
      if (in != out) crossings.push_back({n, node.inputs[k], outputs[k], out});
    }
  }
  return crossings;
}

// The buffer in another tier, behind everything that is there: nothing else changes.
bool Move(Plan* plan, BufferId b, Tier tier) {
  const int64_t bytes = plan->graph.buffers()[b].bytes;
  if (!EditGraph(plan, [&](GraphBuilder* g) { g->buffer(b).tier = tier; })) return false;
  const int64_t alignment = AlignmentOf(tier);
  for (RankPlan& rp : plan->rank_plans) {
    int64_t& arena = rp.arena_bytes[static_cast<size_t>(tier)];
    rp.offset[b] = (arena + alignment - 1) / alignment * alignment;
    arena = rp.offset[b] + (bytes + alignment - 1) / alignment * alignment;
    rp.live_bytes_bound[static_cast<size_t>(tier)] += bytes;
  }
  return true;
}

// Pinned buffers that pass for which `test` holds, each once.
std::vector<BufferId> PinnedWhere(const Plan& plan, const std::function<bool(BufferId)>& test) {
  std::vector<BufferId> found;
  if (!plan.separate_memory) return found;
  for (size_t i = 0; i < plan.graph.buffers().size(); ++i) {
    const Buffer& buffer = plan.graph.buffers()[i];
    const auto b = static_cast<BufferId>(i);
    if (buffer.tier == Tier::kPinned && !buffer.persistent && test(b)) found.push_back(b);
  }
  return found;
}

}  // namespace

std::string LeaveOutCrossing(Plan* plan, Dice* dice) {
  std::vector<std::pair<Crossing, NodeId>> places;  // and a reader
  for (const Crossing& c : Crossings(*plan)) {
    for (NodeId reader : plan->graph.consumers(c.to)) {
      if (plan->graph.nodes()[reader].op != "copy") places.push_back({c, reader});
    }
  }
  if (places.empty()) return "";
  const auto [crossing, reader] = dice->Of(places);
  const std::vector<ValueId>& inputs = plan->graph.nodes()[reader].inputs;
  const auto input = std::find(inputs.begin(), inputs.end(), crossing.to) - inputs.begin();
  return Rewire(plan, reader, static_cast<size_t>(input), crossing.from);
}

std::string UnpinBuffer(Plan* plan, Dice* dice) {
  const std::vector<Crossing> crossings = Crossings(*plan);
  const std::vector<BufferId> buffers = PinnedWhere(*plan, [&](BufferId b) {
    return std::any_of(crossings.begin(), crossings.end(), [&](const Crossing& c) {
      return plan->graph.values()[c.to_device ? c.from : c.to].buffer == b;
    });
  });
  if (buffers.empty()) return "";
  const BufferId b = dice->Of(buffers);
  if (!Move(plan, b, Tier::kHost)) return "";
  return absl::StrCat(plan->graph.buffers()[b].name, " in pageable memory");
}

std::string PutOnDevice(Plan* plan, Dice* dice) {
  const Graph& g = plan->graph;
  const std::vector<BufferId> buffers = PinnedWhere(*plan, [&](BufferId b) {
    for (const Node& node : g.nodes()) {
      if (node.op == "copy") continue;
      for (const std::vector<ValueId>* values : {&node.inputs, &node.outputs}) {
        for (ValueId v : *values) {
          // A load that writes one tensor alone works where that is: then nothing is wrong.
          if (g.values()[v].buffer == b && (node.op != "load_batch" || values->size() > 1))
            return true;
        }
      }
    }
    return false;
  });
  if (buffers.empty()) return "";
  const BufferId b = dice->Of(buffers);
  if (!Move(plan, b, Tier::kDevice)) return "";
  return absl::StrCat(plan->graph.buffers()[b].name, " in the device's memory");
}

}  // namespace mutation_internal
}  // namespace millrace
