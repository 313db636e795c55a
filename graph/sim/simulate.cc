#include "graph/sim/simulate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/plan/link_cost.h"
#include "graph/sim/bound.h"
#include "graph/sim/engine.h"
#include "graph/sim/lane_use.h"

namespace millrace {
namespace {

using sim_internal::Copy;
using sim_internal::Run;
using sim_internal::Times;

double Slowdown(const SimOptions& options, int rank) {
  const auto it = options.slowdown.find(rank);
  return it == options.slowdown.end() ? 1 : it->second;
}

// Ranks of one plan and one speed behave alike when every collective joins all of them, or when all
// ranks are alike anyway.
std::vector<Copy> MakeCopies(const Plan& plan, const SimOptions& options) {
  std::vector<Copy> folded, expanded;
  for (size_t p = 0; p < plan.rank_plans.size(); ++p) {
    std::map<double, size_t> by_speed;
    for (int rank : plan.rank_plans[p].ranks) {
      const double slowdown = Slowdown(options, rank);
      Copy copy{&plan.rank_plans[p], static_cast<int>(p), rank, {rank}, slowdown};
      const auto [it, is_new] = by_speed.emplace(slowdown, folded.size());
      if (is_new) {
        folded.push_back(copy);
      } else {
        folded[it->second].ranks.push_back(rank);
      }
      expanded.push_back(std::move(copy));
    }
  }
  bool whole_world = true;
  for (const auto& [group, size] : plan.graph.groups()) {
    whole_world = whole_world && size == plan.world_size;
  }
  return !options.expand && (whole_world || folded.size() == 1) ? folded : expanded;
}

absl::Status Check(const Plan& plan, const SimOptions& options) {
  std::set<int> served;
  for (const RankPlan& rp : plan.rank_plans) {
    if (rp.lanes.empty()) return absl::InvalidArgumentError("a rank plan has no issue lane");
    for (int rank : rp.ranks) {
      if (rank < 0 || rank >= plan.world_size || !served.insert(rank).second) {
        return absl::InvalidArgumentError(
            absl::StrCat("rank ", rank, " is served twice or lies outside the world"));
      }
    }
  }
  if (static_cast<int>(served.size()) != plan.world_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("plans for ", served.size(), " of ", plan.world_size, " ranks"));
  }
  const auto nodes = static_cast<NodeId>(plan.graph.nodes().size());
  for (const Node& node : plan.graph.nodes()) {
    if (node.async != AsyncRole::kNone && (node.partner < 0 || node.partner >= nodes)) {
      return absl::InvalidArgumentError(absl::StrCat("node ", node.name, " has no partner"));
    }
  }
  for (const auto& [rank, factor] : options.slowdown) {
    if (!(factor > 0)) {
      return absl::InvalidArgumentError(
          absl::StrCat("slowdown of rank ", rank, " is ", factor, ", expected more than 0"));
    }
  }
  return absl::OkStatus();
}

// Per node: what a table or the plan says.
double SecondsOf(const RankPlan& rp, const SimOptions& options, NodeId n) {
  const auto i = static_cast<size_t>(n);
  if (i < options.seconds.size() && options.seconds[i] >= 0) return options.seconds[i];
  return i < rp.seconds.size() && rp.seconds[i] > 0 ? rp.seconds[i] : 0;
}

void FillDurations(const SimOptions& options, double seconds_per_step, Run* run) {
  run->seconds.resize(run->copies.size() * run->nodes);
  for (size_t c = 0; c < run->copies.size(); ++c) {
    const Copy& copy = run->copies[c];
    for (NodeId n = 0; n < run->nodes; ++n) {
      run->seconds[c * run->nodes + n] = SecondsOf(*copy.plan, options, n) * copy.slowdown;
    }
    // What a step costs beside its nodes is paid with the first that is the rank's own.
    for (NodeId n : copy.plan->lanes[0].order) {
      if (run->plan->graph.nodes()[n].is_collective) continue;
      run->seconds[c * run->nodes + n] += seconds_per_step;
      break;
    }
  }
}

std::vector<CriticalNode> CriticalPath(const Run& run) {
  int at = -1;
  for (size_t i = 0; i < run.times.size(); ++i) {
    if (run.times[i].ended && (at < 0 || run.times[i].end > run.times[at].end)) {
      at = static_cast<int>(i);
    }
  }
  std::vector<CriticalNode> path;
  for (; at >= 0; at = run.times[at].cause) {
    const Times& t = run.times[at];
    const Copy& copy = run.copies[run.copy_of(at)];
    if (t.end > t.begin) {
      path.push_back({run.node_of(at), copy.rank, run.programs[copy.program].lane[run.node_of(at)],
                      t.end - t.begin});
    }
  }
  std::reverse(path.begin(), path.end());
  return path;
}

int64_t Nanoseconds(double seconds) { return static_cast<int64_t>(std::llround(seconds * 1e9)); }

void AddSpans(const Run& run, int c, std::vector<Span>* spans) {
  const Copy& copy = run.copies[c];
  const sim_internal::Program& program = run.programs[copy.program];
  const int base = c * run.nodes;
  std::vector<int> order;
  for (NodeId n = 0; n < run.nodes; ++n) {
    if (program.lane[n] >= 0) order.push_back(base + n);
  }
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return run.times[a].sequence < run.times[b].sequence; });
  for (int i : order) {
    const Times& t = run.times[i];
    spans->push_back({copy.rank, program.lane[run.node_of(i)], run.node_of(i),
                      Nanoseconds(t.arrive), Nanoseconds(t.end), Nanoseconds(t.ready),
                      Nanoseconds(t.credit)});
  }
}

// Reports a folded rank for each rank it stands for, ranks ascending.
void AddDetails(const Run& run, SimResult* result) {
  std::vector<std::pair<int, int>> by_rank;  // rank, copy
  for (size_t c = 0; c < run.copies.size(); ++c) {
    for (int rank : run.copies[c].ranks) by_rank.push_back({rank, static_cast<int>(c)});
  }
  std::sort(by_rank.begin(), by_rank.end());
  std::vector<std::vector<Span>> spans(run.copies.size());
  std::vector<std::vector<LaneUse>> lanes(run.copies.size());
  for (size_t c = 0; c < run.copies.size(); ++c) {
    AddSpans(run, static_cast<int>(c), &spans[c]);
    lanes[c] = sim_internal::LaneUses(run, static_cast<int>(c), result->step_seconds);
  }
  for (const auto& [rank, c] : by_rank) {
    for (Span span : spans[c]) {
      span.rank = rank;
      result->spans.push_back(span);
    }
    for (LaneUse lane : lanes[c]) {
      lane.rank = rank;
      result->lanes.push_back(lane);
    }
  }
  result->critical_path = CriticalPath(run);
}

}  // namespace

absl::StatusOr<SimResult> Simulate(const Plan& plan, const Machine& machine,
                                   const SimOptions& options) {
  const auto started = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(Check(plan, options));
  Run run;
  run.plan = &plan;
  run.nodes = static_cast<int>(plan.graph.nodes().size());
  run.copies = MakeCopies(plan, options);
  RETURN_IF_ERROR(sim_internal::MakePrograms(&run));
  FillDurations(options, machine.device().seconds_per_step(), &run);
  run.contention = sim_internal::ContentionsOf(machine);
  for (const auto& row : run.contention) {
    for (double factor : row) run.contended = run.contended || factor != 1;
  }

  const LinkCost links(machine);
  std::vector<double> collective(run.nodes, 0), wire(run.nodes, 0);
  for (NodeId n = 0; n < run.nodes; ++n) {
    const Node& node = plan.graph.nodes()[n];
    if (!node.is_collective || node.async == AsyncRole::kStart) continue;
    const int size = plan.graph.group_size(node.collective.group);
    for (const RankPlan& rp : plan.rank_plans) {
      collective[n] = std::max(collective[n], SecondsOf(rp, options, n));
    }
    if (collective[n] == 0) collective[n] = links.Seconds(node.collective, size);
    wire[n] = std::min(collective[n], links.WireSeconds(node.collective, size));
  }
  sim_internal::MakeCalls(collective, &run);
  RETURN_IF_ERROR(sim_internal::RunEvents(&run));

  SimResult result;
  result.events = run.events;
  for (const Times& t : run.times) result.step_seconds = std::max(result.step_seconds, t.end);
  for (size_t c = 0; c < run.copies.size(); ++c) {
    const sim_internal::CommTime time = sim_internal::CommTimeOf(run, static_cast<int>(c));
    if (c == 0 || time.exposed > result.exposed_comm_seconds) {
      result.exposed_comm_seconds = time.exposed;
      result.hidden_comm_seconds = time.hidden;
    }
    for (int t = 0; t < kTiers; ++t) {
      result.peak_bytes[t] = std::max(result.peak_bytes[t], run.copies[c].plan->arena_bytes[t]);
    }
  }
  result.lower_bound_seconds = sim_internal::LowerBound(run, wire);
  if (options.details) AddDetails(run, &result);
  result.seconds_to_simulate =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return result;
}

Trace ToTrace(const SimResult& result, const Plan& plan) {
  Trace trace;
  trace.title = plan.name;
  trace.predicted = true;
  trace.plan = &plan;
  trace.steps.push_back({0, 0, Nanoseconds(result.step_seconds)});
  trace.spans = result.spans;
  return trace;
}

}  // namespace millrace
