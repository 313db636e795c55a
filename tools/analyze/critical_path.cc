#include "tools/analyze/critical_path.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "graph/trace/breakdown.h"

namespace millrace {
namespace {

constexpr int64_t kRounding = 1;  // nanoseconds, of two times of one moment

class Walk {
 public:
  explicit Walk(const Trace& step) : step_(step) {
    for (const Span& s : step.spans) {
      ranks_[s.rank].push_back(&s);
      by_node_[s.node][s.rank] = &s;
    }
    for (auto& [rank, spans] : ranks_) {
      std::stable_sort(spans.begin(), spans.end(),
                       [](const Span* a, const Span* b) { return a->end_ns < b->end_ns; });
    }
  }

  std::vector<PathPart> Run() {
    if (step_.steps.empty()) return {};
    const StepMark& mark = step_.steps[0];
    now_ = mark.end_ns;
    const Span* at = nullptr;
    for (const Span& s : step_.spans) {
      if (at == nullptr || s.end_ns > at->end_ns) at = &s;
    }
    if (at != nullptr) Wait(-1, at->rank, at->end_ns);
    int rank = at == nullptr ? 0 : at->rank;
    NodeId waiting = -1;
    while (at != nullptr && visited_.insert(at).second) {
      at = LastToArrive(*at);
      visited_.insert(at);
      rank = at->rank;
      waiting = at->node;
      Take(at->node, at->rank, /*waiting=*/false, at->begin_ns);
      const Span* cause = Cause(*at);
      if (cause != nullptr) Wait(at->node, at->rank, cause->end_ns);
      at = cause;
    }
    Wait(waiting, rank, mark.begin_ns);
    std::reverse(path_.begin(), path_.end());
    return std::move(path_);
  }

 private:
  // The path's part from `begin` to where the walk is; the walk goes on from `begin`.
  void Take(NodeId node, int rank, bool waiting, int64_t begin) {
    begin = std::clamp(begin, step_.steps[0].begin_ns, now_);
    if (begin < now_) path_.push_back({node, rank, waiting, begin, now_});
    now_ = begin;
  }
  void Wait(NodeId node, int rank, int64_t begin) { Take(node, rank, /*waiting=*/true, begin); }

  const Span* LastToArrive(const Span& s) const {
    const Span* last = &s;
    if (!step_.plan->graph.nodes()[s.node].is_collective ||
        ClassOf(step_, s) != SpanClass::kCommunication) {
      return last;
    }
    for (const auto& [rank, other] : by_node_.at(s.node)) {
      if (other->begin_ns > last->begin_ns) last = other;
    }
    return last;
  }

  // What let `s` begin: the last to end of its data, its credit and its lane. An operation in flight began when its
  // start half was reached.
  const Span* Cause(const Span& s) const {
    const Node& node = step_.plan->graph.nodes()[s.node];
    const Span* start = nullptr;
    if (node.async == AsyncRole::kDone) {
      const auto halves = by_node_.find(node.partner);
      if (halves != by_node_.end() && halves->second.count(s.rank) > 0)
        start = halves->second.at(s.rank);
    }
    const std::vector<const Span*>& spans = ranks_.at(s.rank);
    const auto end = std::upper_bound(spans.begin(), spans.end(), now_,
                                      [](int64_t at, const Span* x) { return at < x->end_ns; });
    const Span* guess = nullptr;
    for (auto i = end; i != spans.begin();) {
      const Span* c = *--i;
      if (visited_.count(c) > 0) continue;
      if (guess == nullptr) guess = c;
      const bool told = c->end_ns == s.ready_ns || (s.credit_ns > 0 && c->end_ns == s.credit_ns);
      // Another engine whose turn it was - the drive, a copy engine - leaves no other mark in a trace than that it ended
      // when this began.
      const bool gave_way = s.begin_ns - c->end_ns <= kRounding && now_ == s.begin_ns;
      if (told || gave_way || c->lane == s.lane || c == start || OneCommunicator(node, *c))
        return c;
      // The start half still ran when its operation was on its way: what held up the one held up the other.
      if (start != nullptr && start->end_ns > now_ && visited_.count(start) == 0 &&
          (c->end_ns == start->ready_ns || c->lane == start->lane)) {
        return c;
      }
    }
    return guess;
  }

  // A communicator runs one operation after another, whatever lanes they are on.
  bool OneCommunicator(const Node& node, const Span& other) const {
    const Node& before = step_.plan->graph.nodes()[other.node];
    return node.is_collective && before.is_collective && before.async != AsyncRole::kStart &&
           before.collective.group == node.collective.group;
  }

  const Trace& step_;
  std::map<int, std::vector<const Span*>> ranks_;  // by end
  std::map<NodeId, std::map<int, const Span*>> by_node_;
  std::set<const Span*> visited_;
  std::vector<PathPart> path_;  // backwards
  int64_t now_ = 0;
};

}  // namespace

std::vector<PathPart> CriticalPath(const Trace& step) { return Walk(step).Run(); }

}  // namespace millrace
