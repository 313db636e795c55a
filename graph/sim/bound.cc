#include "graph/sim/bound.h"

#include <algorithm>
#include <utility>

namespace millrace {
namespace sim_internal {
namespace {

bool Binding(EdgeKind kind) {
  return kind == EdgeKind::kData || kind == EdgeKind::kControl || kind == EdgeKind::kAsync;
}

// Earliest begin of every event over binding edges, and the longest way from its end. The order in
// which nodes ended in the run is a topological order; members of a collective end together.
struct Ways {
  std::vector<double> head, tail;
};

Ways FindWays(const Run& run, const std::vector<int>& order) {
  Ways w;
  w.head.assign(run.times.size(), 0);
  w.tail.assign(run.times.size(), 0);
  const auto for_arcs = [&](int index, auto visit) {
    const Program& program = run.programs[run.copies[run.copy_of(index)].program];
    const NodeId n = run.node_of(index);
    for (int k = program.first[n]; k < program.first[n + 1]; ++k) {
      if (Binding(program.arcs[k].kind)) visit(index - n + program.arcs[k].to);
    }
  };
  for (int index : order) {
    if (run.call[index] >= 0) {
      for (int member : run.calls[run.call[index]].members) {
        w.head[index] = std::max(w.head[index], w.head[member]);
      }
    }
    for_arcs(index, [&](int to) {
      w.head[to] = std::max(w.head[to], w.head[index] + run.seconds[index]);
    });
  }
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    for_arcs(*it,
             [&](int to) { w.tail[*it] = std::max(w.tail[*it], run.seconds[to] + w.tail[to]); });
    if (run.call[*it] < 0) continue;
    for (int member : run.calls[run.call[*it]].members) {
      w.tail[member] = std::max(w.tail[member], w.tail[*it]);
    }
  }
  return w;
}

// Work of one lane: not before `head`, then `tail` more seconds until the step's end.
struct Job {
  double head, work, tail;
};

// No order of one lane's jobs is shorter than the preemptive one that always goes on with the job of the
// longest tail (Jackson's preemptive schedule, the bound of Carlier 1982).
double LaneBound(std::vector<Job> jobs) {
  std::sort(jobs.begin(), jobs.end(), [](const Job& a, const Job& b) { return a.head < b.head; });
  std::vector<std::pair<double, double>> ready;  // tail, work left; a heap
  double bound = 0, now = 0;
  size_t next = 0;
  while (next < jobs.size() || !ready.empty()) {
    if (ready.empty()) now = std::max(now, jobs[next].head);
    for (; next < jobs.size() && jobs[next].head <= now; ++next) {
      ready.push_back({jobs[next].tail, jobs[next].work});
      std::push_heap(ready.begin(), ready.end());
    }
    std::pop_heap(ready.begin(), ready.end());
    auto [tail, left] = ready.back();
    ready.pop_back();
    const double until = next < jobs.size() ? jobs[next].head : now + left;
    if (now + left <= until) {
      now += left;
      bound = std::max(bound, now + tail);
    } else {
      ready.push_back({tail, left - (until - now)});
      std::push_heap(ready.begin(), ready.end());
      now = until;
    }
  }
  return bound;
}

// Of communication and computation that slow each other down: in a second of both, 1/a of a second of
// computation and 1/b of communication is done, so that overlapping saves 1/a + 1/b - 1, if that is
// anything, for as long as both last.
double SharedBound(const Run& run, double compute, double comm) {
  if (!run.contended) return 0;
  const int kCompute = static_cast<int>(LaneKind::kCompute);
  const int kComm = static_cast<int>(LaneKind::kComm);
  const double a = run.contention[kCompute][kComm], b = run.contention[kComm][kCompute];
  const double saved = std::max(0.0, 1 / a + 1 / b - 1);
  return compute + comm - saved * std::min(a * compute, b * comm);
}

}  // namespace

double LowerBound(const Run& run, const std::vector<double>& wire_seconds) {
  std::vector<int> order;
  for (size_t i = 0; i < run.times.size(); ++i) {
    if (run.times[i].ended) order.push_back(static_cast<int>(i));
  }
  // Nodes of no duration end when their predecessors do: the event loop's own count breaks the tie.
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return run.times[a].sequence < run.times[b].sequence; });
  const Ways w = FindWays(run, order);
  double bound = 0;
  for (int i : order) bound = std::max(bound, w.head[i] + run.seconds[i] + w.tail[i]);

  for (size_t c = 0; c < run.copies.size(); ++c) {
    const int base = static_cast<int>(c) * run.nodes;
    double wire = 0, compute = 0, comm = 0;
    for (const Lane& lane : run.copies[c].plan->lanes) {
      std::vector<Job> jobs;
      for (NodeId n : lane.order) {
        const int i = base + n;
        if (run.call[i] >= 0) wire += wire_seconds[n];
        if (run.call[i] >= 0) {
          comm += run.seconds[i];
        } else if (lane.kind == LaneKind::kCompute) {
          compute += run.seconds[i];
        }
        if (run.seconds[i] <= 0) continue;
        jobs.push_back({w.head[i], run.seconds[i], w.tail[i]});
      }
      bound = std::max(bound, LaneBound(std::move(jobs)));
    }
    bound = std::max({bound, wire, SharedBound(run, compute, comm)});
  }
  return bound;
}

}  // namespace sim_internal
}  // namespace millrace
