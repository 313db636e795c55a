// Can the plan be read at all? Ids in range, tables of the right size, every rank served once,
// every node in exactly one lane and in a lane that may hold it, asynchronous pairs consistent.
// What this check lets pass, the others may index without looking.
#include <algorithm>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "graph/plan/hash.h"
#include "graph/verify/check.h"

namespace millrace {
namespace verify_internal {
namespace {

// Node ids inside lanes, edges and credits; false when one is out of range.
bool CheckIds(const Plan& plan, const RankPlan& rp, int rank, Report* report) {
  const int n = static_cast<int>(plan.graph.nodes().size());
  bool good = true;
  const auto in_range = [&](NodeId id, const std::string& where) {
    if (id >= 0 && id < n) return true;
    good = false;
    report->Add(rank, "", absl::StrCat(where, " names node ", id, ", but there are ", n, " nodes"));
    return false;
  };
  for (const Lane& lane : rp.lanes) {
    for (NodeId id : lane.order) in_range(id, absl::StrCat("lane ", lane.name));
  }
  for (const Edge& e : rp.edges) {
    if (!in_range(e.from, "an edge") || !in_range(e.to, "an edge")) continue;
    if (e.from == e.to) {
      report->Add(rank, plan.graph.nodes()[e.from].name, "an edge leads from the node to itself");
    }
  }
  for (const Credit& c : rp.credits) {
    for (const Credit::Holder& h : c.holders) {
      in_range(h.take, absl::StrCat("credit ", c.name));
      in_range(h.give, absl::StrCat("credit ", c.name));
    }
  }
  return good;
}

void CheckPlacementInLanes(const Plan& plan, RankView* view, Report* report) {
  const Graph& graph = plan.graph;
  const RankPlan& rp = *view->plan;
  for (size_t l = 0; l < rp.lanes.size(); ++l) {
    const Lane& lane = rp.lanes[l];
    for (size_t i = 0; i < lane.order.size(); ++i) {
      const NodeId id = lane.order[i];
      const Node& node = graph.nodes()[id];
      if (view->lane[id] >= 0) {
        report->Add(view->rank, node.name,
                    absl::StrCat("stands twice: in lane ", rp.lanes[view->lane[id]].name,
                                 " and in lane ", lane.name));
        continue;
      }
      view->lane[id] = static_cast<int32_t>(l);
      view->position[id] = static_cast<int32_t>(i);
      if (l == 0 && node.async == AsyncRole::kDone) {
        report->Add(view->rank, node.name,
                    "the done half of an asynchronous operation stands in the issue lane",
                    "move it to the lane of its engine");
      }
      if (l > 0 && node.async != AsyncRole::kDone) {
        report->Add(view->rank, node.name,
                    absl::StrCat("stands in lane ", lane.name,
                                 ", which holds only the done halves of asynchronous operations"),
                    "move it to the issue lane");
      }
      if (l > 0 && lane.kind != LaneKindOf(graph, id)) {
        report->Add(
            view->rank, node.name,
            absl::StrCat("stands in lane ", lane.name, ", but is work for an engine of kind ",
                         Name(LaneKindOf(graph, id))));
      }
      if (l > 0 && node.is_collective && absl::StartsWith(lane.name, "comm:") &&
          lane.name.substr(5) != node.collective.group) {
        report->Add(view->rank, node.name,
                    absl::StrCat("works on group \"", node.collective.group,
                                 "\" but stands in lane ", lane.name));
      }
    }
  }
  for (size_t id = 0; id < graph.nodes().size(); ++id) {
    if (view->lane[id] < 0) {
      report->Add(view->rank, graph.nodes()[id].name, "stands in no lane: this rank never runs it");
    }
  }
}

// Partners point at each other and agree; groups exist and divide the world.
void CheckNodes(const Plan& plan, Report* report) {
  const std::vector<Node>& nodes = plan.graph.nodes();
  for (size_t id = 0; id < nodes.size(); ++id) {
    const Node& node = nodes[id];
    if (node.is_collective) {
      const std::string& group = node.collective.group;
      if (plan.graph.groups().count(group) == 0) {
        report->Add(-1, node.name, absl::StrCat("works on the unknown group \"", group, "\""));
      } else if (const int size = plan.graph.group_size(group);
                 size < 1 || plan.world_size % size != 0) {
        report->Add(-1, node.name,
                    absl::StrCat("group \"", group, "\" of ", size,
                                 " ranks does not divide the world of ", plan.world_size));
      }
    }
    if (node.async == AsyncRole::kNone) {
      if (node.partner >= 0) report->Add(-1, node.name, "is synchronous but has a partner");
      continue;
    }
    const bool start = node.async == AsyncRole::kStart;
    const AsyncRole other = start ? AsyncRole::kDone : AsyncRole::kStart;
    if (node.partner < 0 || node.partner >= static_cast<NodeId>(nodes.size()) ||
        nodes[node.partner].async != other ||
        nodes[node.partner].partner != static_cast<NodeId>(id)) {
      report->Add(-1, node.name,
                  absl::StrCat("is a ", start ? "start" : "done", " whose partner ",
                               node.partner >= 0 && node.partner < static_cast<NodeId>(nodes.size())
                                   ? nodes[node.partner].name
                                   : absl::StrCat(node.partner),
                               " is not its ", start ? "done" : "start"));
      continue;
    }
    const Node& partner = nodes[node.partner];
    const CollectiveSpec &a = node.collective, &b = partner.collective;
    if (start && (node.op != partner.op || node.is_collective != partner.is_collective ||
                  (node.is_collective && (a.op != b.op || a.group != b.group ||
                                          a.dtype != b.dtype || a.count != b.count)))) {
      report->Add(-1, node.name,
                  absl::StrCat("and its done ", partner.name, " describe different operations"));
    }
  }
}

}  // namespace

bool CheckStructure(const Plan& plan, Context* context, Report* report) {
  context->plan = &plan;
  if (const std::string hash = plan.hash.empty() ? "" : PlanHash(plan); hash != plan.hash) {
    report->Add(-1, "", absl::StrCat("the plan says its hash is ", plan.hash, ", but it is ", hash),
                "the plan was changed after it was made");
  }
  const size_t n = plan.graph.nodes().size();
  if (plan.world_size < 1) {
    report->Add(-1, "", absl::StrCat("world_size is ", plan.world_size, ", expected at least 1"));
    return false;
  }
  CheckNodes(plan, report);
  bool readable = report->ok();

  std::vector<int> plans_of(plan.world_size, 0);
  size_t lanes = 0, edges = 0;
  for (const RankPlan& rp : plan.rank_plans) {
    for (int rank : rp.ranks) {
      if (rank < 0 || rank >= plan.world_size) {
        report->Add(rank, "", absl::StrCat("rank outside the world of ", plan.world_size));
        readable = false;
      } else {
        ++plans_of[rank];
      }
    }
    if (rp.ranks.empty()) {
      report->Add(-1, "", "a rank plan serves no rank");
      readable = false;
      continue;
    }
    RankView view;
    view.plan = &rp;
    view.rank = rp.ranks.front();
    view.lane.assign(n, -1);
    view.position.assign(n, -1);
    if (rp.lanes.empty()) {
      report->Add(view.rank, "", "the rank plan has no issue lane");
      readable = false;
      continue;
    }
    if (!CheckIds(plan, rp, view.rank, report)) {
      readable = false;
      continue;
    }
    CheckPlacementInLanes(plan, &view, report);
    view.before = std::make_unique<HappensBefore>(static_cast<int>(n), rp.lanes, rp.edges);
    context->acyclic = context->acyclic && view.before->acyclic();
    lanes = std::max(lanes, rp.lanes.size());
    edges += rp.edges.size();
    context->ranks.push_back(std::move(view));
  }
  for (int rank = 0; rank < plan.world_size; ++rank) {
    if (plans_of[rank] == 1) continue;
    report->Add(rank, "", absl::StrCat(plans_of[rank], " rank plans serve this rank, expected 1"));
    readable = false;
  }
  report->set_facts(absl::StrCat(Grouped(static_cast<int64_t>(n)), " nodes, each in one of ", lanes,
                                 " lanes; ", Grouped(static_cast<int64_t>(edges)), " edges; ",
                                 plan.world_size, " ranks in ", plan.rank_plans.size(),
                                 plan.rank_plans.size() == 1 ? " rank plan" : " rank plans"));
  return readable;
}

}  // namespace verify_internal
}  // namespace millrace
