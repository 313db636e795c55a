#include "graph/sim/engine.h"

#include <algorithm>
#include <map>
#include <queue>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/verify/rank_group.h"

namespace millrace {
namespace sim_internal {
namespace {

absl::Status BadNode(const Plan& plan, const RankPlan& rp, NodeId n) {
  return absl::InvalidArgumentError(
      absl::StrCat("plan ", plan.name, ", rank ", rp.ranks.empty() ? -1 : rp.ranks.front(),
                   " names node ", n, ", but there are ", plan.graph.nodes().size()));
}

absl::Status MakeProgram(const Plan& plan, const RankPlan& rp, Program* program) {
  const int n = static_cast<int>(plan.graph.nodes().size());
  program->lane.assign(n, -1);
  std::vector<NodeId> before(n, -1);  // in its lane
  for (size_t l = 0; l < rp.lanes.size(); ++l) {
    NodeId last = -1;
    for (NodeId id : rp.lanes[l].order) {
      if (id < 0 || id >= n) return BadNode(plan, rp, id);
      if (program->lane[id] >= 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("node ", plan.graph.nodes()[id].name, " stands twice in the lanes"));
      }
      program->lane[id] = static_cast<int32_t>(l);
      before[id] = last;
      last = id;
    }
  }
  std::vector<int32_t>& first = program->first;
  first.assign(n + 1, 0);
  program->predecessors.assign(n, 0);
  // The lanes' order is added below for all neighbours, so the plan's own edges for it are left
  // out.
  const auto skip = [&](const Edge& e) {
    return e.kind == EdgeKind::kLane && before[e.to] == e.from;
  };
  for (const Edge& e : rp.edges) {
    if (e.from < 0 || e.from >= n) return BadNode(plan, rp, e.from);
    if (e.to < 0 || e.to >= n) return BadNode(plan, rp, e.to);
    if (!skip(e)) ++first[e.from + 1];
  }
  for (NodeId id = 0; id < n; ++id) {
    if (before[id] >= 0) ++first[before[id] + 1];
  }
  for (int i = 0; i < n; ++i) first[i + 1] += first[i];
  program->arcs.resize(first[n]);
  std::vector<int32_t> fill(first.begin(), first.end() - 1);
  for (const Edge& e : rp.edges) {
    if (skip(e)) continue;
    program->arcs[fill[e.from]++] = {e.to, e.kind};
    ++program->predecessors[e.to];
  }
  for (NodeId id = 0; id < n; ++id) {
    if (before[id] < 0) continue;
    program->arcs[fill[before[id]]++] = {id, EdgeKind::kLane};
    ++program->predecessors[id];
  }
  return absl::OkStatus();
}

// How far the work that runs has come, where lanes slow each other down.
class Paces {
 public:
  struct Moved {  // the new end of a node, which makes its earlier ones void
    double end;
    int32_t index;
    int32_t version;
  };

  explicit Paces(const Run& run)
      : r_(run), active_(run.copies.size()), work_(run.contended ? run.times.size() : 0) {}

  // Nodes that begin together: one, or the members of a collective.
  void Begin(const int32_t* nodes, size_t count, double seconds, double now) {
    for (size_t i = 0; i < count; ++i) {
      Work& work = work_[nodes[i]];
      work.left = seconds;
      work.since = now;
      work.announced = false;
      active_[r_.copy_of(nodes[i])].push_back(nodes[i]);
    }
    for (size_t i = 0; i < count; ++i) Refresh(r_.copy_of(nodes[i]), now);
  }
  void End(int32_t index, double now) {
    std::vector<int32_t>& active = active_[r_.copy_of(index)];
    active.erase(std::find(active.begin(), active.end(), index));
    Refresh(r_.copy_of(index), now);
  }
  bool IsCurrent(int32_t index, int32_t version) const { return work_[index].version == version; }
  // Since the last call.
  std::vector<Moved> TakeMoved() { return std::exchange(moved_, {}); }

 private:
  struct Work {
    double left = 0;  // seconds, were it alone
    double factor = 1;
    double since = 0;
    int32_t version = 0;  // of its last announced end
    bool announced = false;
  };

  int KindOf(int32_t index) const {
    if (r_.call[index] >= 0) return static_cast<int>(LaneKind::kComm);
    const Copy& copy = r_.copies[r_.copy_of(index)];
    const int lane = r_.programs[copy.program].lane[r_.node_of(index)];
    return static_cast<int>(copy.plan->lanes[lane].kind);
  }

  double FactorOf(int32_t index) const {
    double factor = 1;
    for (int32_t other : active_[r_.copy_of(index)]) {
      if (other != index) factor = std::max(factor, r_.contention[KindOf(index)][KindOf(other)]);
    }
    return factor;
  }

  // The set of what runs in `copy` has changed.
  void Refresh(int copy, double now) {
    for (int32_t index : active_[copy]) {
      if (r_.call[index] < 0) {
        Set(index, FactorOf(index), now);
        continue;
      }
      const std::vector<int32_t>& members = r_.calls[r_.call[index]].members;
      double factor = 1;
      for (int32_t member : members) factor = std::max(factor, FactorOf(member));
      for (int32_t member : members) {
        if (!r_.times[member].ended) Set(member, factor, now);
      }
    }
  }

  void Set(int32_t index, double factor, double now) {
    Work& work = work_[index];
    if (work.announced && work.factor == factor) return;
    if (work.announced) work.left = std::max(0.0, work.left - (now - work.since) / work.factor);
    work.since = now;
    work.factor = factor;
    work.announced = true;
    moved_.push_back({now + work.left * factor, index, ++work.version});
  }

  const Run& r_;
  std::vector<std::vector<int32_t>> active_;  // per copy
  std::vector<Work> work_;                    // per event index
  std::vector<Moved> moved_;
};

class Loop {
 public:
  explicit Loop(Run* run) : r_(*run), missing_(run->times.size(), 0), paces_(*run) {}

  absl::Status Go() {
    for (size_t c = 0; c < r_.copies.size(); ++c) {
      const Program& program = r_.programs[r_.copies[c].program];
      const int base = static_cast<int>(c) * r_.nodes;
      for (NodeId n = 0; n < r_.nodes; ++n) missing_[base + n] = program.predecessors[n];
    }
    for (size_t i = 0; i < missing_.size(); ++i) {
      if (missing_[i] == 0 && Exists(static_cast<int>(i))) Arrive(static_cast<int>(i), 0);
    }
    while (!heap_.empty()) {
      const Event event = heap_.top();
      heap_.pop();
      if (r_.contended && !paces_.IsCurrent(event.index, event.version)) continue;
      End(event.index, event.time);
    }
    for (size_t i = 0; i < missing_.size(); ++i) {
      if (!r_.times[i].ended && Exists(static_cast<int>(i))) return Stuck();
    }
    return absl::OkStatus();
  }

 private:
  struct Event {
    double time;
    int32_t index;
    int32_t version;                        // only where lanes contend
    bool operator>(const Event& o) const {  // equal times: by copy, then node
      return time != o.time ? time > o.time : index > o.index;
    }
  };

  // Nodes that begin together, `seconds` long were they alone.
  void Begin(const int32_t* nodes, size_t count, double seconds, double now) {
    if (!r_.contended) {
      for (size_t i = 0; i < count; ++i) heap_.push({now + seconds, nodes[i], 0});
      return;
    }
    paces_.Begin(nodes, count, seconds, now);
    Announce();
  }
  void Announce() {
    for (const Paces::Moved& m : paces_.TakeMoved()) heap_.push({m.end, m.index, m.version});
  }

  bool Exists(int index) const {
    return r_.programs[r_.copies[r_.copy_of(index)].program].lane[r_.node_of(index)] >= 0;
  }

  void Arrive(int index, double now) {
    Times& t = r_.times[index];
    t.arrive = t.begin = now;
    if (r_.call[index] < 0) {
      const int32_t node = index;
      Begin(&node, 1, r_.seconds[index], now);
      return;
    }
    Call& call = r_.calls[r_.call[index]];
    ++call.arrived;
    TryBegin(&call, now, t.cause);
  }

  // `cause` is what let it begin: the last member's last predecessor, or the communicator's
  // previous call.
  void TryBegin(Call* call, double now, int32_t cause) {
    if (call->arrived < call->needed) return;
    if (call->previous >= 0 && !r_.calls[call->previous].complete) return;
    for (int32_t member : call->members) {
      r_.times[member].begin = now;
      r_.times[member].cause = cause;
    }
    Begin(call->members.data(), call->members.size(), call->seconds, now);
  }

  void End(int index, double now) {
    Times& mine = r_.times[index];
    mine.end = now;
    mine.ended = true;
    mine.sequence = static_cast<int32_t>(r_.events++);
    if (r_.contended) {
      paces_.End(index, now);
      Announce();
    }
    const int base = index - r_.node_of(index);
    const Program& program = r_.programs[r_.copies[r_.copy_of(index)].program];
    const NodeId n = r_.node_of(index);
    for (int k = program.first[n]; k < program.first[n + 1]; ++k) {
      const Arc& arc = program.arcs[k];
      const int to = base + arc.to;
      Times& t = r_.times[to];
      if (arc.kind == EdgeKind::kCredit) {
        t.credit = now;
      } else if (arc.kind != EdgeKind::kLane) {
        t.ready = now;
      }
      // Of those that end last, name a real reason rather than the lane.
      if (t.cause < 0 || now > r_.times[t.cause].end || arc.kind != EdgeKind::kLane)
        t.cause = index;
      if (--missing_[to] == 0) Arrive(to, now);
    }
    if (r_.call[index] < 0) return;
    Call& call = r_.calls[r_.call[index]];
    if (call.complete) return;
    call.complete = true;
    if (call.next >= 0) TryBegin(&r_.calls[call.next], now, index);
  }

  // Follows "waits for" from the first node left over until it comes round or ends at a missing
  // member.
  absl::Status Stuck() const {
    std::string text = "the plan cannot finish:";
    int lines = 0;
    for (size_t i = 0; i < missing_.size() && lines < 8; ++i) {
      const int index = static_cast<int>(i);
      if (r_.times[i].ended || !Exists(index)) continue;
      const Copy& copy = r_.copies[r_.copy_of(index)];
      const Node& node = r_.plan->graph.nodes()[r_.node_of(index)];
      if (missing_[i] == 0) {  // arrived: waits for other ranks
        const Call& call = r_.calls[r_.call[i]];
        absl::StrAppend(&text, "\n  rank ", copy.rank, ": ", node.name, " waits for ",
                        call.needed - call.arrived, " other members of group ",
                        node.collective.group);
        ++lines;
        continue;
      }
      const Program& program = r_.programs[copy.program];
      const int base = index - r_.node_of(index);
      for (NodeId from = 0; from < r_.nodes; ++from) {
        if (r_.times[base + from].ended || program.lane[from] < 0) continue;
        const auto begin = program.arcs.begin() + program.first[from];
        const auto end = program.arcs.begin() + program.first[from + 1];
        if (std::none_of(begin, end, [&](const Arc& a) { return a.to == r_.node_of(index); }))
          continue;
        absl::StrAppend(&text, "\n  rank ", copy.rank, ": ", node.name, " waits for ",
                        r_.plan->graph.nodes()[from].name);
        ++lines;
        break;
      }
    }
    return absl::FailedPreconditionError(text);
  }

  Run& r_;
  std::vector<int32_t> missing_;
  Paces paces_;
  std::priority_queue<Event, std::vector<Event>, std::greater<Event>> heap_;
};

}  // namespace

Contentions ContentionsOf(const Machine& machine) {
  Contentions factors;
  for (auto& row : factors) row.fill(1);
  for (const Contention& c : machine.contention()) {
    for (int what = 0; what < kLaneKinds; ++what) {
      for (int beside = 0; beside < kLaneKinds; ++beside) {
        if (Name(static_cast<LaneKind>(what)) == c.lane() &&
            Name(static_cast<LaneKind>(beside)) == c.beside()) {
          factors[what][beside] = std::max(factors[what][beside], c.factor());
        }
      }
    }
  }
  return factors;
}

absl::Status MakePrograms(Run* run) {
  for (const RankPlan& rp : run->plan->rank_plans) {
    run->programs.emplace_back();
    absl::Status status = MakeProgram(*run->plan, rp, &run->programs.back());
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

void MakeCalls(const std::vector<double>& collective_seconds, Run* run) {
  const Plan& plan = *run->plan;
  run->call.assign(run->copies.size() * run->nodes, -1);
  // Folded: every copy is in the one instance of each group that is simulated.
  int represented = 0;
  for (const Copy& copy : run->copies) represented += copy.ranks.size() == 1 ? 1 : 0;
  const bool expanded = represented == static_cast<int>(run->copies.size());
  std::map<std::tuple<std::string, int, int>, int32_t> ids;  // group, instance, k
  for (size_t c = 0; c < run->copies.size(); ++c) {
    const Copy& copy = run->copies[c];
    std::map<std::string, std::pair<int, int32_t>> issued;  // per group: k, last call
    for (NodeId n : copy.plan->lanes[0].order) {
      const Node& node = plan.graph.nodes()[n];
      if (!node.is_collective || node.async == AsyncRole::kDone) continue;
      const std::string& group = node.collective.group;
      const int instance = expanded ? GroupInstance(plan, group, copy.rank) : 0;
      const NodeId end = node.async == AsyncRole::kStart ? node.partner : n;
      auto& [k, last] = issued.try_emplace(group, 0, -1).first->second;
      const auto [it, is_new] =
          ids.try_emplace({group, instance, k++}, static_cast<int32_t>(run->calls.size()));
      if (is_new) {
        Call call;
        call.needed = expanded ? std::max(1, plan.graph.group_size(group))
                               : static_cast<int32_t>(run->copies.size());
        call.seconds = collective_seconds[end];
        call.previous = last;
        if (last >= 0) run->calls[last].next = it->second;
        run->calls.push_back(std::move(call));
      }
      last = it->second;
      const int index = static_cast<int>(c) * run->nodes + end;
      run->call[index] = last;
      run->calls[last].members.push_back(index);
      run->seconds[index] = run->calls[last].seconds;
    }
  }
}

absl::Status RunEvents(Run* run) {
  run->times.assign(run->copies.size() * run->nodes, Times());
  return Loop(run).Go();
}

}  // namespace sim_internal
}  // namespace millrace
