#include "graph/plan/list_schedule.h"

#include <algorithm>
#include <queue>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/plan/clocks.h"
#include "graph/plan/live_count.h"

namespace millrace {
namespace {

// Among ready nodes the smallest goes first; the first member that differs names the rule.
struct Key {
  int group = 0;     // -1 hurried, 0 collective, 1 feeds a collective, 2 other
  double rank = 0;   // negated upward rank; of group 1 the seconds
  int32_t text = 0;  // place in the text
  NodeId node = -1;
  bool operator<(const Key& o) const {
    return std::tie(group, rank, text) < std::tie(o.group, o.rank, o.text);
  }
};

class Scheduler {
 public:
  Scheduler(const Graph& graph, const LaneTable& table, const std::vector<Edge>& dependencies,
            const std::vector<double>& seconds, const ScheduleOptions& options)
      : graph_(graph),
        table_(table),
        seconds_(seconds),
        options_(options),
        edges_(dependencies),
        n_(graph.nodes().size()),
        live_(graph, options.budget_bytes > 0) {}

  absl::StatusOr<Schedule> Run() {
    WaitBeforeStarts();
    ASSIGN_OR_RETURN(const std::vector<NodeId> order, Sorted(graph_, edges_));
    Prepare(order);
    while (true) {
      while (!later_.empty() && later_.top().first <= now_) {
        ready_.insert(keys_[later_.top().second]);
        later_.pop();
      }
      if (!ready_.empty()) {
        const NodeId node = Choose();
        ready_.erase(keys_[node]);
        Issue(node);
      } else if (!later_.empty()) {
        now_ = later_.top().first;
        waited_ = true;
      } else {
        break;
      }
    }
    AddLaneEdges();
    result_.edges = std::move(edges_);
    return std::move(result_);
  }

 private:
  // A done half is issued with its start: what else it waits for, the start waits for.
  void WaitBeforeStarts() {
    const size_t given = edges_.size();
    for (size_t i = 0; i < given; ++i) {
      const Node& to = graph_.nodes()[edges_[i].to];
      if (to.async == AsyncRole::kDone && edges_[i].from != to.partner) {
        edges_.push_back({edges_[i].from, to.partner, EdgeKind::kControl});
      }
    }
  }

  void Prepare(const std::vector<NodeId>& order) {
    first_.assign(n_ + 1, 0);
    for (const Edge& e : edges_) ++first_[e.from + 1];
    for (size_t i = 0; i < n_; ++i) first_[i + 1] += first_[i];
    next_.resize(edges_.size());
    std::vector<int> fill(first_.begin(), first_.end() - 1);
    waiting_.assign(n_, 0);
    for (const Edge& e : edges_) {
      next_[fill[e.from]++] = e.to;
      ++waiting_[e.to];
    }
    std::vector<double> rank(n_);
    for (auto it = order.rbegin(); it != order.rend(); ++it) {
      double longest = 0;
      for (int s = first_[*it]; s < first_[*it + 1]; ++s) {
        longest = std::max(longest, rank[next_[s]]);
      }
      rank[*it] = seconds_[*it] + longest;
    }
    keys_.resize(n_);
    for (size_t i = 0; i < n_; ++i) {
      const auto n = static_cast<NodeId>(graph_.topological_order()[i]);
      const int group = GroupOf(n);
      // Of what feeds collectives the quickest first, as in Johnson's rule for two machines in a row.
      const double place = group == 1 ? seconds_[n] : -rank[n];
      keys_[n] = {.group = group,
                  .rank = options_.ladder == Ladder::kProgramOrder ? 0 : place,
                  .text = static_cast<int32_t>(i),
                  .node = n};
    }
    ready_time_.assign(n_, 0);
    last_needed_.assign(n_, -1);
    free_.assign(table_.lanes.size(), 0);
    in_flight_.assign(table_.lanes.size(), -1);
    result_.lanes = table_.lanes;
    result_.start_time.assign(n_, 0);
    result_.reason.assign(n_, "");
    for (size_t i = 0; i < n_; ++i) {
      const auto n = static_cast<NodeId>(i);
      if (waiting_[n] == 0) Release(n, 0);
    }
  }

  int GroupOf(NodeId n) const {
    const Node& node = graph_.nodes()[n];
    const Nudge nudge = options_.nudges.empty() ? Nudge::kNone : options_.nudges[n];
    if (nudge != Nudge::kNone) return nudge == Nudge::kHurry ? -1 : 2;
    if (node.async == AsyncRole::kStart) return 0;
    // A whole collective that something needs comes in turn with the starts, the more urgent first: behind
    // one that was started before it, it would wait for that one too.
    if (node.is_collective && first_[n] < first_[n + 1]) return 0;
    if (options_.ladder != Ladder::kFeedFirst || node.is_collective) return 2;
    for (int s = first_[n]; s < first_[n + 1]; ++s) {
      const Node& next = graph_.nodes()[next_[s]];
      if (next.is_collective && next.async != AsyncRole::kDone) return 1;
    }
    return 2;
  }

  void Release(NodeId n, double time) {
    if (graph_.nodes()[n].async == AsyncRole::kDone) return;  // goes with its start
    later_.push({time, n});
  }

  NodeId Choose() {
    auto best = ready_.begin();
    std::string& reason = result_.reason[best->node];
    if (waited_) {
      waited_ = false;
      const NodeId needed = last_needed_[best->node];
      reason = needed < 0 ? "first node" : absl::StrCat("waits for ", graph_.nodes()[needed].name);
      return best->node;
    }
    if (ready_.size() == 1) {
      reason = "only ready node";
      return best->node;
    }
    const auto second = std::next(best);
    if (best->group < 0) {
      reason = "shortens the step";
      return best->node;
    }
    if (best->group == 0) {
      reason = graph_.nodes()[best->node].async == AsyncRole::kStart ? "starts a collective early"
                                                                     : "collective before compute";
      return best->node;
    }
    if (live_.bytes() > options_.budget_bytes / 2 && options_.budget_bytes > 0) {
      const NodeId smallest = SmallestGrowth();
      if (smallest != best->node) {
        result_.reason[smallest] = "frees memory";
        return smallest;
      }
    }
    reason = best->group != second->group ? "feeds a collective"
             : best->rank != second->rank ? "critical path"
                                          : "program order";
    return best->node;
  }

  // Looks at the first ones only: the rest is far from its turn.
  NodeId SmallestGrowth() const {
    NodeId smallest = -1;
    int64_t growth = 0;
    int looked = 0;
    for (const Key& key : ready_) {
      if (++looked > 64) break;
      const int64_t g = live_.Growth(key.node);
      if (smallest >= 0 && g >= growth) continue;
      smallest = key.node;
      growth = g;
    }
    return smallest;
  }

  void Issue(NodeId n) {
    const Node& node = graph_.nodes()[n];
    const int engine = table_.of_engine[n];
    double begin = now_;
    if (node.async == AsyncRole::kNone && engine > 0) {
      // One engine, one operation at a time: those in flight end first.
      begin = std::max(begin, free_[engine]);
      if (in_flight_[engine] >= 0) edges_.push_back({in_flight_[engine], n, EdgeKind::kLane});
    }
    now_ = begin + seconds_[n];
    if (node.async == AsyncRole::kNone && engine > 0) free_[engine] = now_;
    result_.start_time[n] = begin;
    result_.lanes[0].order.push_back(n);
    live_.Run(n);
    End(n, now_);
    if (node.async != AsyncRole::kStart) return;
    const NodeId done = node.partner;
    const int lane = table_.of_node[done];
    result_.start_time[done] = std::max(now_, free_[lane]);
    free_[lane] = result_.start_time[done] + seconds_[done];
    in_flight_[lane] = done;
    result_.lanes[lane].order.push_back(done);
    result_.reason[done] = "issue order";
    End(done, free_[lane]);
  }

  void End(NodeId n, double time) {
    result_.makespan = std::max(result_.makespan, time);
    for (int s = first_[n]; s < first_[n + 1]; ++s) {
      const NodeId next = next_[s];
      if (time >= ready_time_[next]) {
        ready_time_[next] = time;
        last_needed_[next] = n;
      }
      if (--waiting_[next] == 0) Release(next, ready_time_[next]);
    }
  }

  void AddLaneEdges() {
    for (const Lane& lane : result_.lanes) {
      for (size_t i = 1; i < lane.order.size(); ++i) {
        edges_.push_back({lane.order[i - 1], lane.order[i], EdgeKind::kLane});
      }
    }
  }

  const Graph& graph_;
  const LaneTable& table_;
  const std::vector<double>& seconds_;
  const ScheduleOptions& options_;
  std::vector<Edge> edges_;
  const size_t n_;
  LiveCount live_;

  std::vector<int> first_,
      waiting_;  // successors of n: next_[first_[n]] .. next_[first_[n + 1] - 1]
  std::vector<NodeId> next_;
  std::vector<Key> keys_;
  std::set<Key> ready_;
  // Released, but ready only later; by time, then id.
  std::priority_queue<std::pair<double, NodeId>, std::vector<std::pair<double, NodeId>>,
                      std::greater<>>
      later_;
  std::vector<double> ready_time_;
  std::vector<NodeId> last_needed_;  // the predecessor that ended last
  std::vector<double> free_;         // per lane: when its last operation ends
  std::vector<NodeId> in_flight_;    // per lane: its last done half
  double now_ = 0;
  bool waited_ = true;
  Schedule result_;
};

}  // namespace

absl::string_view Name(Ladder ladder) {
  switch (ladder) {
    case Ladder::kCriticalPath:
      return "critical path";
    case Ladder::kFeedFirst:
      return "feed collectives first";
    case Ladder::kProgramOrder:
      return "program order";
  }
  return "";
}

absl::StatusOr<Schedule> ListSchedule(const Graph& graph, const LaneTable& table,
                                      const std::vector<Edge>& dependencies,
                                      const std::vector<double>& seconds,
                                      const ScheduleOptions& options) {
  return Scheduler(graph, table, dependencies, seconds, options).Run();
}

}  // namespace millrace
