#include "graph/trace/breakdown.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_format.h"

namespace millrace {
namespace {

using Interval = std::pair<int64_t, int64_t>;

// Sorted, without overlaps.
std::vector<Interval> Union(std::vector<Interval> intervals) {
  std::sort(intervals.begin(), intervals.end());
  std::vector<Interval> out;
  for (const Interval& i : intervals) {
    if (!out.empty() && i.first <= out.back().second) {
      out.back().second = std::max(out.back().second, i.second);
    } else {
      out.push_back(i);
    }
  }
  return out;
}

int64_t Length(const std::vector<Interval>& intervals) {
  int64_t sum = 0;
  for (const Interval& i : intervals) sum += i.second - i.first;
  return sum;
}

// Of two unions.
int64_t Overlap(const std::vector<Interval>& a, const std::vector<Interval>& b) {
  int64_t sum = 0;
  size_t j = 0;
  for (const Interval& i : a) {
    while (j < b.size() && b[j].second <= i.first) ++j;
    for (size_t k = j; k < b.size() && b[k].first < i.second; ++k) {
      sum += std::min(i.second, b[k].second) - std::max(i.first, b[k].first);
    }
  }
  return sum;
}

void AddStep(const std::vector<const Span*>& spans, const StepMark& step, LaneTime& time) {
  int64_t free = step.begin_ns;
  for (const Span* s : spans) {
    if (s->ready_ns < free) time.queued_ns += free - std::max(s->ready_ns, step.begin_ns);
    const int64_t begin = std::max(s->begin_ns, free);
    const int64_t data = std::clamp(s->ready_ns, free, begin);
    const int64_t credit = std::clamp(s->credit_ns, data, begin);
    time.wait_data_ns += data - free;
    time.wait_credit_ns += credit - data;
    time.wake_up_ns += begin - credit;
    const int64_t end = std::max(begin, s->end_ns);
    time.busy_ns += end - begin;
    free = end;
  }
  time.rest_ns += std::max<int64_t>(0, step.end_ns - free);
}

}  // namespace

Breakdown BreakDown(const Trace& trace) {
  Breakdown result;
  result.steps = static_cast<int64_t>(trace.steps.size());
  for (const StepMark& s : trace.steps) result.steps_ns += s.end_ns - s.begin_ns;

  std::map<std::pair<int, int>, std::vector<const Span*>> tracks;
  for (const Span& s : trace.spans) tracks[{s.rank, s.lane}].push_back(&s);
  std::map<int, std::pair<std::vector<Interval>, std::vector<Interval>>> compute_and_communication;
  for (auto& [track, spans] : tracks) {
    std::stable_sort(spans.begin(), spans.end(),
                     [](const Span* a, const Span* b) { return a->begin_ns < b->begin_ns; });
    const Lane& lane = trace.plan->ForRank(track.first).lanes[track.second];
    LaneTime time;
    time.rank = track.first;
    time.lane = track.second;
    time.name = lane.name;
    size_t next = 0;
    for (const StepMark& step : trace.steps) {
      std::vector<const Span*> of_step;
      while (next < spans.size() && spans[next]->begin_ns < step.begin_ns) ++next;
      while (next < spans.size() && spans[next]->begin_ns < step.end_ns) {
        of_step.push_back(spans[next++]);
      }
      AddStep(of_step, step, time);
    }
    result.lanes.push_back(std::move(time));

    auto& [compute, communication] = compute_and_communication[track.first];
    for (const Span* s : spans) {
      const Node& node = trace.plan->graph.nodes()[s->node];
      if (lane.kind == LaneKind::kComm ||
          (track.second == 0 && node.is_collective && node.async == AsyncRole::kNone)) {
        communication.push_back({s->begin_ns, s->end_ns});
      } else if (track.second == 0 && node.async == AsyncRole::kNone) {
        compute.push_back({s->begin_ns, s->end_ns});
      }
    }
  }
  for (auto& [rank, both] : compute_and_communication) {
    const std::vector<Interval> compute = Union(std::move(both.first));
    const std::vector<Interval> communication = Union(std::move(both.second));
    RankTime time;
    time.rank = rank;
    time.compute_ns = Length(compute);
    time.communication_ns = Length(communication);
    time.exposed_ns = time.communication_ns - Overlap(communication, compute);
    result.ranks.push_back(time);
  }
  return result;
}

std::string ToText(const Breakdown& b) {
  const double per = 1e-6 / static_cast<double>(std::max<int64_t>(1, b.steps));
  std::string out =
      absl::StrFormat("ms per step, %d steps of %.3f ms\n%-24s %10s %10s %10s %10s %10s %10s\n",
                      b.steps, b.steps_ns * per, "rank and lane", "busy", "wait data", "credit",
                      "wake-up", "rest", "(queued)");
  for (const LaneTime& l : b.lanes) {
    absl::StrAppendFormat(&out, "%-24s %10.3f %10.3f %10.3f %10.3f %10.3f %10.3f\n",
                          absl::StrFormat("%d %s", l.rank, l.name), l.busy_ns * per,
                          l.wait_data_ns * per, l.wait_credit_ns * per, l.wake_up_ns * per,
                          l.rest_ns * per, l.queued_ns * per);
  }
  for (const RankTime& r : b.ranks) {
    absl::StrAppendFormat(&out, "rank %d: compute %.3f, communication %.3f, of it exposed %.3f\n",
                          r.rank, r.compute_ns * per, r.communication_ns * per, r.exposed_ns * per);
  }
  return out;
}

}  // namespace millrace
