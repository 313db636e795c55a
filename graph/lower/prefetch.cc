#include "graph/lower/prefetch.h"

#include <algorithm>
#include <map>

#include "graph/lower/rewriter.h"

namespace millrace {
namespace {

// The gathers of the buckets that one stage is the first to use.
struct Group {
  NodeId before_use = -1;  // the stage that runs before that stage, -1: none
  std::vector<NodeId> gathers;
  // Copies that bring in what is gathered, and what those copy; the nearest first.
  std::vector<std::vector<NodeId>> feeders;
  int64_t bytes = 0;
};

class PrefetchPass final : public Pass {
 public:
  absl::string_view name() const override { return "prefetch"; }

  absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const override {
    const std::vector<Group> groups = Groups(graph);
    if (groups.empty()) return graph;
    Rewriter r(graph);
    // From the last to the first, so that gathers that begin at one place keep their order.
    for (int j = static_cast<int>(groups.size()) - 1; j >= 0; --j) {
      const int depth = Depth(groups, j, context.options);
      const auto move = [&](const std::vector<NodeId>& nodes, int ahead) {
        const NodeId after = ahead > j ? -1 : groups[j - ahead].before_use;
        for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {
          r.MoveAfter(*it, after);
          if (after >= 0) r.node(*it).control.push_back(after);
        }
      };
      move(groups[j].gathers, depth);
      int ahead = depth;
      for (const std::vector<NodeId>& feeders : groups[j].feeders) {
        ahead += depth > 0 ? 1 : 0;
        move(feeders, ahead);
      }
    }
    return std::move(r).Finish();
  }

 private:
  // How many groups, j the last of them, may wait gathered for their use.
  static int Depth(const std::vector<Group>& groups, int j, const LowerOptions& options) {
    if (!options.overlap) return 0;
    if (options.prefetch_bytes == 0) return options.prefetch_depth;
    int64_t waiting = 0;
    for (int depth = 0; depth < options.prefetch_depth; ++depth) {
      if (depth > j) return options.prefetch_depth;
      waiting += groups[j - depth].bytes;
      if (waiting > options.prefetch_bytes) return depth;
    }
    return options.prefetch_depth;
  }

  // In the order of their use.
  static std::vector<Group> Groups(const Graph& graph) {
    std::vector<NodeId> stage_before(graph.nodes().size(), -1);
    NodeId last = -1;
    for (size_t n = 0; n < graph.nodes().size(); ++n) {
      stage_before[n] = last;
      const Node& node = graph.nodes()[n];
      if (RunsStage(node)) last = static_cast<NodeId>(n);
    }
    std::map<NodeId, Group> by_user;
    for (size_t n = 0; n < graph.nodes().size(); ++n) {
      const Node& node = graph.nodes()[n];
      if ((node.op != "all_gather" && node.op != "copy") || node.outputs.empty()) continue;
      const Value& whole = graph.values()[node.outputs[0]];
      if (graph.buffers()[whole.buffer].kind != BufferKind::kGathered) continue;
      const std::vector<NodeId>& readers = graph.consumers(node.outputs[0]);
      if (readers.empty() || !RunsStage(graph.nodes()[readers.front()])) continue;
      Group& group = by_user[readers.front()];
      group.before_use = stage_before[readers.front()];
      group.gathers.push_back(static_cast<NodeId>(n));
      size_t level = 0;
      for (NodeId feeder = graph.producer(node.inputs[0]);
           feeder >= 0 && graph.nodes()[feeder].op == "copy";
           feeder = graph.producer(graph.nodes()[feeder].inputs[0])) {
        group.feeders.resize(std::max(group.feeders.size(), level + 1));
        group.feeders[level++].push_back(feeder);
      }
      group.bytes += whole.bytes();
    }
    std::vector<Group> groups;
    for (auto& [user, group] : by_user) groups.push_back(std::move(group));
    return groups;
  }
};

}  // namespace

std::unique_ptr<Pass> Prefetch() { return std::make_unique<PrefetchPass>(); }

}  // namespace millrace
