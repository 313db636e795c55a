// The runtime adds no order of its own, so whatever must be ordered needs a path of edges: the
// producer of a value before its readers, nodes named in `control`, neighbours of a lane, a start
// before its done. The engines behind the other lanes work in the order in which the issue lane
// starts them, so those lanes must repeat that order.
#include "absl/strings/str_cat.h"
#include "graph/verify/check.h"

namespace millrace {
namespace verify_internal {
namespace {

void CheckDependencies(const Context& c, const RankView& view, int64_t* count, Report* report) {
  const Graph& graph = c.graph();
  const auto require = [&](NodeId from, NodeId to, const std::string& why) {
    ++*count;
    if (!view.has(from) || !view.has(to) || view.before->Precedes(from, to)) return;
    report->Add(view.rank, c.node(to).name,
                absl::StrCat("no path of edges makes it wait for ", c.node(from).name, ", ", why),
                absl::StrCat("add an edge ", c.node(from).name, " -> ", c.node(to).name));
  };
  for (NodeId n = 0; n < c.num_nodes(); ++n) {
    const Node& node = graph.nodes()[n];
    for (ValueId v : node.inputs) {
      const NodeId producer = graph.producer(v);
      if (producer < 0 || producer == n) continue;
      require(OperationEnd(graph, producer), OperationBegin(graph, n),
              absl::StrCat("which produces ", c.value(v).name));
    }
    for (NodeId from : node.control) require(from, n, "named in its control edges");
    if (node.async == AsyncRole::kDone) require(node.partner, n, "its start");
  }
}

void CheckLaneOrder(const Context& c, const RankView& view, int64_t* count, Report* report) {
  for (const Lane& lane : view.plan->lanes) {
    for (size_t i = 1; i < lane.order.size(); ++i) {
      const NodeId a = lane.order[i - 1], b = lane.order[i];
      ++*count;
      if (a == b || view.before->Precedes(a, b)) continue;
      report->Add(view.rank, c.node(b).name,
                  view.before->Precedes(b, a)
                      ? absl::StrCat("stands after ", c.node(a).name, " in lane ", lane.name,
                                     ", but edges order them the other way round")
                      : absl::StrCat("no path of edges makes it wait for ", c.node(a).name,
                                     ", its neighbour in lane ", lane.name));
    }
  }
  for (size_t l = 1; l < view.plan->lanes.size(); ++l) {
    const Lane& lane = view.plan->lanes[l];
    NodeId last = -1;
    for (NodeId n : lane.order) {
      const Node& node = c.node(n);
      if (node.async != AsyncRole::kDone || !view.has(node.partner)) continue;
      ++*count;
      if (last >= 0 && view.position[c.node(last).partner] > view.position[node.partner]) {
        report->Add(view.rank, node.name,
                    absl::StrCat("lane ", lane.name, " lists it after ", c.node(last).name,
                                 ", but the issue lane starts it first"));
      }
      last = n;
    }
  }
}

}  // namespace

void CheckOrder(const Context& context, Report* report) {
  int64_t dependencies = 0, neighbours = 0;
  for (const RankView& view : context.ranks) {
    CheckDependencies(context, view, &dependencies, report);
    CheckLaneOrder(context, view, &neighbours, report);
  }
  report->set_facts(absl::StrCat(Grouped(dependencies), " dependencies and ", Grouped(neighbours),
                                 " lane neighbours carried by edges"));
}

}  // namespace verify_internal
}  // namespace millrace
