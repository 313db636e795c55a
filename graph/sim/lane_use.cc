#include "graph/sim/lane_use.h"

#include <algorithm>
#include <utility>

#include "graph/trace/intervals.h"

namespace millrace {
namespace sim_internal {
namespace {

double Overlap(double a_low, double a_high, double b_low, double b_high) {
  return std::max(0.0, std::min(a_high, b_high) - std::max(a_low, b_low));
}

}  // namespace

std::vector<LaneUse> LaneUses(const Run& run, int copy, double step_seconds) {
  const std::vector<Lane>& lanes = run.copies[copy].plan->lanes;
  const int base = copy * run.nodes;
  std::vector<LaneUse> uses;
  for (size_t l = 0; l < lanes.size(); ++l) {
    LaneUse use;
    use.rank = run.copies[copy].rank;
    use.lane = static_cast<int>(l);
    double free = 0;
    for (NodeId n : lanes[l].order) {
      const Times& t = run.times[base + n];
      use.busy += t.end - t.begin;
      // The gap before it, cut into: until the values were there, then until the credit was there;
      // then, in a collective, until the other ranks were there too.
      const double ready = std::clamp(t.ready, free, t.begin);
      const double credit = std::max(ready, std::clamp(t.credit, free, t.begin));
      use.wait_credit += credit - ready;
      double queued = 0;
      if (t.cause >= 0 && run.copy_of(t.cause) == copy) {
        const Times& before = run.times[t.cause];
        queued = Overlap(free, ready, std::max(before.ready, before.credit), before.begin);
      }
      use.wait_lane += queued;
      use.wait_data += (ready - free) - queued + (t.begin - credit);
      free = t.end;
    }
    use.after_last = step_seconds - free;
    uses.push_back(use);
  }
  return uses;
}

CommTime CommTimeOf(const Run& run, int copy) {
  const Copy& c = run.copies[copy];
  const int base = copy * run.nodes;
  Intervals<double> comm, compute;
  for (size_t l = 0; l < c.plan->lanes.size(); ++l) {
    for (NodeId n : c.plan->lanes[l].order) {
      const Times& t = run.times[base + n];
      if (run.plan->graph.nodes()[n].async == AsyncRole::kStart) continue;  // issuing is no compute
      const LaneKind kind = c.plan->lanes[l].kind;
      if (run.call[base + n] >= 0 || kind == LaneKind::kComm) {
        comm.push_back({t.begin, t.end});
      } else if (kind == LaneKind::kCompute) {
        compute.push_back({t.begin, t.end});
      }
    }
  }
  comm = Union(std::move(comm));
  compute = Union(std::move(compute));
  CommTime time;
  size_t k = 0;
  for (const auto& [low, high] : comm) {
    while (k < compute.size() && compute[k].second <= low) ++k;
    double hidden = 0;
    for (size_t i = k; i < compute.size() && compute[i].first < high; ++i) {
      hidden += Overlap(low, high, compute[i].first, compute[i].second);
    }
    time.hidden += hidden;
    time.exposed += high - low - hidden;
  }
  return time;
}

}  // namespace sim_internal
}  // namespace millrace
