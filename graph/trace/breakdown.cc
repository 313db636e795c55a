#include "graph/trace/breakdown.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_format.h"
#include "graph/trace/intervals.h"

namespace millrace {
namespace {

using Interval = std::pair<int64_t, int64_t>;

Intervals<int64_t> Both(Intervals<int64_t> a, const Intervals<int64_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return Union(std::move(a));
}

int64_t Length(const Intervals<int64_t>& intervals) {
  int64_t sum = 0;
  for (const Interval& i : intervals) sum += i.second - i.first;
  return sum;
}

// Of what lies within [begin, end) of a union.
int64_t Within(const Intervals<int64_t>& of, int64_t begin, int64_t end) {
  int64_t sum = 0;
  auto i = std::upper_bound(of.begin(), of.end(), begin,
                            [](int64_t at, const Interval& x) { return at < x.second; });
  for (; i != of.end() && i->first < end; ++i)
    sum += std::min(end, i->second) - std::max(begin, i->first);
  return sum;
}

// What a rank was doing, as unions.
struct Activity {
  Intervals<int64_t> compute, communication, copy;
};

std::map<int, Activity> ActivityOf(const Trace& trace) {
  std::map<int, Activity> ranks;
  for (const Span& s : trace.spans) {
    Activity& rank = ranks[s.rank];
    const SpanClass c = ClassOf(trace, s);
    if (c == SpanClass::kCompute) rank.compute.push_back({s.begin_ns, s.end_ns});
    if (c == SpanClass::kCommunication) rank.communication.push_back({s.begin_ns, s.end_ns});
    if (c == SpanClass::kCopy) rank.copy.push_back({s.begin_ns, s.end_ns});
  }
  for (auto& [rank, activity] : ranks) {
    activity.compute = Union(std::move(activity.compute));
    activity.communication = Union(std::move(activity.communication));
    activity.copy = Union(std::move(activity.copy));
  }
  return ranks;
}

// The rank's spans of other lanes by when they ended: who made a waiting node ready.
using ByEnd = std::multimap<int64_t, const Span*>;

// How much of [begin, end), waited for data that came at `end`, its producer stood in its lane's queue.
int64_t InQueue(const ByEnd& ended, int lane, int64_t begin, int64_t end) {
  int64_t most = 0;
  const auto [first, last] = ended.equal_range(end);
  for (auto i = first; i != last; ++i) {
    const Span& producer = *i->second;
    if (producer.lane == lane) continue;
    const int64_t queued = std::min(producer.begin_ns, end) - std::max(producer.ready_ns, begin);
    most = std::max(most, queued);
  }
  return most;
}

void AddStep(const std::vector<const Span*>& spans, const StepMark& step, const ByEnd& ended,
             LaneTime& time) {
  int64_t free = step.begin_ns;
  for (const Span* s : spans) {
    if (s->ready_ns < free) time.queued_ns += free - std::max(s->ready_ns, step.begin_ns);
    const int64_t begin = std::max(s->begin_ns, free);
    const int64_t data = std::clamp(s->ready_ns, free, begin);
    const int64_t credit = std::clamp(s->credit_ns, data, begin);
    const int64_t lane = data > free ? InQueue(ended, s->lane, free, data) : 0;
    time.wait_data_ns += data - free - lane;
    time.wait_lane_ns += lane;
    time.wait_credit_ns += credit - data;
    time.wake_up_ns += begin - credit;
    const int64_t end = std::max(begin, s->end_ns);
    time.busy_ns += end - begin;
    free = end;
  }
  time.rest_ns += std::max<int64_t>(0, step.end_ns - free);
}

}  // namespace

SpanClass ClassOf(const Trace& trace, const Span& span) {
  const Node& node = trace.plan->graph.nodes()[span.node];
  const LaneKind lane = trace.plan->ForRank(span.rank).lanes[span.lane].kind;
  if (lane == LaneKind::kComm) return SpanClass::kCommunication;
  if (lane == LaneKind::kHostCompute) return SpanClass::kHost;
  if (lane != LaneKind::kCompute) return SpanClass::kCopy;
  if (node.async == AsyncRole::kStart) return SpanClass::kIssue;
  return node.is_collective ? SpanClass::kCommunication : SpanClass::kCompute;
}

Trace StepOf(const Trace& trace, size_t index) {
  Trace one;
  one.title = trace.title;
  one.predicted = trace.predicted;
  one.plan = trace.plan;
  one.peak_flops_per_second = trace.peak_flops_per_second;
  one.steps = {trace.steps[index]};
  for (const Span& s : trace.spans) {
    if (s.begin_ns >= one.steps[0].begin_ns && s.begin_ns < one.steps[0].end_ns)
      one.spans.push_back(s);
  }
  return one;
}

std::vector<int64_t> ExposedBySpan(const Trace& trace) {
  std::vector<int64_t> exposed(trace.spans.size(), 0);
  const std::map<int, Activity> ranks = ActivityOf(trace);
  std::vector<size_t> order;
  for (size_t i = 0; i < trace.spans.size(); ++i) {
    if (ClassOf(trace, trace.spans[i]) == SpanClass::kCommunication) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return trace.spans[a].begin_ns < trace.spans[b].begin_ns;
  });
  std::map<int, int64_t> counted;  // per rank: all before this is some span's already
  for (size_t i : order) {
    const Span& s = trace.spans[i];
    const auto [until, is_new] = counted.insert({s.rank, s.begin_ns});
    const int64_t begin = std::max(s.begin_ns, until->second);
    if (begin >= s.end_ns) continue;
    exposed[i] = s.end_ns - begin - Within(ranks.at(s.rank).compute, begin, s.end_ns);
    until->second = s.end_ns;
  }
  return exposed;
}

Breakdown BreakDown(const Trace& trace) {
  Breakdown result;
  result.steps = static_cast<int64_t>(trace.steps.size());
  for (const StepMark& s : trace.steps) result.steps_ns += s.end_ns - s.begin_ns;

  std::map<std::pair<int, int>, std::vector<const Span*>> tracks;
  std::map<int, ByEnd> ended;
  for (const Span& s : trace.spans) {
    tracks[{s.rank, s.lane}].push_back(&s);
    ended[s.rank].insert({s.end_ns, &s});
  }
  for (auto& [track, spans] : tracks) {
    std::stable_sort(spans.begin(), spans.end(),
                     [](const Span* a, const Span* b) { return a->begin_ns < b->begin_ns; });
    LaneTime time;
    time.rank = track.first;
    time.lane = track.second;
    time.name = trace.plan->ForRank(track.first).lanes[track.second].name;
    size_t next = 0;
    for (const StepMark& step : trace.steps) {
      std::vector<const Span*> of_step;
      while (next < spans.size() && spans[next]->begin_ns < step.begin_ns) ++next;
      while (next < spans.size() && spans[next]->begin_ns < step.end_ns) {
        of_step.push_back(spans[next++]);
      }
      AddStep(of_step, step, ended[track.first], time);
    }
    result.lanes.push_back(std::move(time));
  }
  for (const auto& [rank, activity] : ActivityOf(trace)) {
    const Intervals<int64_t> computing_or_talking = Both(activity.compute, activity.communication);
    const Intervals<int64_t> busy = Both(computing_or_talking, activity.copy);
    RankTime time;
    time.rank = rank;
    time.compute_ns = Length(activity.compute);
    time.communication_ns = Length(activity.communication);
    time.exposed_ns = Length(computing_or_talking) - time.compute_ns;
    time.copy_ns = Length(activity.copy);
    time.exposed_copy_ns = Length(busy) - Length(computing_or_talking);
    time.idle_ns = result.steps_ns - Length(busy);
    result.ranks.push_back(time);
  }
  return result;
}

std::string ToText(const Breakdown& b) {
  const double per = 1e-6 / static_cast<double>(std::max<int64_t>(1, b.steps));
  std::string out = absl::StrFormat(
      "ms per step, %d steps of %.3f ms\n%-24s %10s %10s %10s %10s %10s %10s %10s\n", b.steps,
      b.steps_ns * per, "rank and lane", "busy", "wait data", "lane", "credit", "wake-up", "rest",
      "(queued)");
  for (const LaneTime& l : b.lanes) {
    absl::StrAppendFormat(&out, "%-24s %10.3f %10.3f %10.3f %10.3f %10.3f %10.3f %10.3f\n",
                          absl::StrFormat("%d %s", l.rank, l.name), l.busy_ns * per,
                          l.wait_data_ns * per, l.wait_lane_ns * per, l.wait_credit_ns * per,
                          l.wake_up_ns * per, l.rest_ns * per, l.queued_ns * per);
  }
  for (const RankTime& r : b.ranks) {
    absl::StrAppendFormat(&out, "rank %d: compute %.3f, communication %.3f, of it exposed %.3f\n",
                          r.rank, r.compute_ns * per, r.communication_ns * per, r.exposed_ns * per);
  }
  return out;
}

}  // namespace millrace
