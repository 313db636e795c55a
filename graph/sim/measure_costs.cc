#include "graph/sim/measure_costs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "graph/base/median.h"
#include "graph/plan/cost_model.h"
#include "graph/plan/cost_table.h"
#include "graph/trace/breakdown.h"
#include "graph/verify/rank_group.h"

namespace millrace {
namespace {

double Seconds(const Span& s) { return static_cast<double>(s.end_ns - s.begin_ns) * 1e-9; }

// Index of the step that each span belongs to, by time.
int StepIndex(const Trace& trace, const Span& span) {
  for (size_t i = 0; i < trace.steps.size(); ++i) {
    if (span.end_ns <= trace.steps[i].end_ns) return static_cast<int>(i);
  }
  return -1;
}

// One collective of one step: its spans on the members of one instance of its group.
using CallKey = std::tuple<int, NodeId, int>;
CallKey CallOf(const Trace& trace, const Span& span, const Node& node) {
  return {StepIndex(trace, span), span.node,
          GroupInstance(*trace.plan, node.collective.group, span.rank)};
}

bool IsCall(const Node& node) { return node.is_collective && node.async != AsyncRole::kStart; }

// What was seen of all nodes of one size.
struct Seen {
  NodeCost size;
  std::vector<double> seconds;
};

using Interval = std::pair<double, double>;

double Overlap(const Interval& a, const std::vector<Interval>& others) {
  double sum = 0;
  for (const Interval& b : others) {
    sum += std::max(0.0, std::min(a.second, b.second) - std::max(a.first, b.first));
  }
  return sum;
}

void SetContention(const std::string& lane, const std::string& beside, double together,
                   double longer, CostTable* table) {
  if (together <= 0) return;
  // Half of one thread's pace is what two threads on one core get; slower than a quarter is noise.
  const double factor =
      longer >= 0.75 * together ? 4 : together / (together - std::max(0.0, longer));
  Contention* c = table->add_contention();
  c->set_lane(lane);
  c->set_beside(beside);
  c->set_factor(factor);
}

}  // namespace

CostTable MeasureCosts(const Trace& trace, const Machine& machine) {
  const Graph& graph = trace.plan->graph;
  std::map<CallKey, double> calls;  // the shortest span of the members: the last to come
  std::map<std::string, Seen> by_size;
  std::map<std::string, std::pair<double, double>> by_op;  // measured, analytic
  const std::vector<double> analytic = NodeSeconds(graph, machine);
  const auto see = [&](NodeId n, double seconds) {
    const Node& node = graph.nodes()[n];
    NodeCost size = SizeOfNode(graph, n);
    Seen& seen = by_size[size.SerializeAsString()];
    if (seen.seconds.empty()) {
      size.set_node(node.name);
      seen.size = size;
    }
    seen.seconds.push_back(seconds);
    auto& [measured, predicted] = by_op[size.op()];
    measured += seconds;
    predicted += analytic[n];
  };
  for (const Span& span : trace.spans) {
    const Node& node = graph.nodes()[span.node];
    if (IsCall(node)) {
      const auto [it, is_new] = calls.try_emplace(CallOf(trace, span, node), Seconds(span));
      if (!is_new) it->second = std::min(it->second, Seconds(span));
    } else if (node.async != AsyncRole::kStart) {
      see(span.node, Seconds(span));
    }
  }
  for (const auto& [call, seconds] : calls) see(std::get<1>(call), seconds);

  CostTable table;
  table.set_pipeline(trace.plan->name);
  table.set_machine(machine.name());
  table.set_world_size(trace.plan->world_size);
  for (auto& [key, seen] : by_size) {
    NodeCost* cost = table.add_node();
    *cost = seen.size;
    cost->set_seconds(Median(seen.seconds));
    cost->set_samples(static_cast<int64_t>(seen.seconds.size()));
  }
  for (const auto& [op, sums] : by_op) {
    if (sums.first <= 0 || sums.second <= 0) continue;
    OpFactor* factor = table.add_op();
    factor->set_op(op);
    factor->set_factor(sums.first / sums.second);
  }
  return table;
}

double RestOfStep(const Trace& trace) {
  std::vector<double> rests;
  for (size_t i = 0; i < trace.steps.size(); ++i) {
    const Breakdown step = BreakDown(StepOf(trace, i));
    double wake_up = 0, ranks = 0;
    double after = std::numeric_limits<double>::infinity();
    for (const LaneTime& lane : step.lanes) {
      if (lane.lane != 0) continue;
      ++ranks;
      wake_up += static_cast<double>(lane.wake_up_ns) * 1e-9;
      after = std::min(after, static_cast<double>(lane.rest_ns) * 1e-9);
    }
    if (ranks > 0) rests.push_back(wake_up / ranks + after);
  }
  return Median(std::move(rests));
}

void AddContention(const Trace& trace, CostTable* table) {
  const Graph& graph = trace.plan->graph;
  const CostLookup lookup(*table);
  // A collective is at work from when its last member has joined.
  std::map<CallKey, double> joined;
  for (const Span& span : trace.spans) {
    const Node& node = graph.nodes()[span.node];
    if (!IsCall(node)) continue;
    double& begin = joined.try_emplace(CallOf(trace, span, node), 0).first->second;
    begin = std::max(begin, static_cast<double>(span.begin_ns) * 1e-9);
  }
  struct Work {
    Interval when;
    double alone;  // seconds by the table
    double longer() const { return when.second - when.first - alone; }
  };
  // Per rank and step, what ran on each kind of lane.
  std::map<std::pair<int, int>, std::map<LaneKind, std::vector<Work>>> ranks;
  for (const Span& span : trace.spans) {
    const Node& node = graph.nodes()[span.node];
    if (node.async == AsyncRole::kStart) continue;
    const double end = static_cast<double>(span.end_ns) * 1e-9;
    const double own_begin = static_cast<double>(span.begin_ns) * 1e-9;
    const double unknown = std::numeric_limits<double>::quiet_NaN();
    const double alone = lookup.Seconds(graph, span.node, unknown);
    if (std::isnan(alone)) continue;
    const LaneKind kind = LaneKindOf(graph, span.node);
    // Of what is no computation, only the split: beside a whole one nothing of this rank runs.
    if (kind != LaneKind::kCompute && node.async == AsyncRole::kNone) continue;
    const double begin = IsCall(node) ? joined[CallOf(trace, span, node)] : own_begin;
    ranks[{StepIndex(trace, span), span.rank}][kind].push_back({{begin, end}, alone});
  }
  struct Sum {
    double together = 0, compute_longer = 0, other_longer = 0;
  };
  std::map<LaneKind, Sum> sums;
  for (auto& [key, lanes] : ranks) {
    std::map<LaneKind, std::vector<Interval>> when;
    for (const auto& [kind, work] : lanes) {
      for (const Work& w : work) when[kind].push_back(w.when);
    }
    for (const Work& w : lanes[LaneKind::kCompute]) {
      // By how much it took longer is shared out by how long each other lane ran beside it.
      std::map<LaneKind, double> beside;
      double all = 0;
      for (const auto& [kind, others] : when) {
        if (kind == LaneKind::kCompute) continue;
        all += beside[kind] = Overlap(w.when, others);
      }
      for (const auto& [kind, both] : beside) {
        if (both <= 0) continue;
        sums[kind].together += both;
        sums[kind].compute_longer += w.longer() * both / all;
      }
    }
    for (const auto& [kind, work] : lanes) {
      if (kind == LaneKind::kCompute) continue;
      for (const Work& w : work) {
        if (Overlap(w.when, when[LaneKind::kCompute]) > 0) sums[kind].other_longer += w.longer();
      }
    }
  }
  for (const auto& [kind, sum] : sums) {
    const std::string lane(Name(kind));
    SetContention("compute", lane, sum.together, sum.compute_longer, table);
    SetContention(lane, "compute", sum.together, sum.other_longer, table);
  }
}

}  // namespace millrace
