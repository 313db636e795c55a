#include "tools/analyze/analysis.h"

#include <algorithm>
#include <map>
#include <utility>

#include "graph/base/median.h"

namespace millrace {
namespace {

// A collective in one step, as every rank saw it.
struct Joined {
  std::vector<const Span*> spans;
  int64_t last_begin = INT64_MIN;
};

bool IsCollective(const Trace& trace, const Span& s) {
  return trace.plan->graph.nodes()[s.node].is_collective &&
         ClassOf(trace, s) == SpanClass::kCommunication;
}

std::map<NodeId, Joined> JoinedOf(const Trace& step) {
  std::map<NodeId, Joined> joined;
  for (const Span& s : step.spans) {
    if (!IsCollective(step, s)) continue;
    Joined& j = joined[s.node];
    j.spans.push_back(&s);
    j.last_begin = std::max(j.last_begin, s.begin_ns);
  }
  return joined;
}

// Per node id; `steps` are the trace's, one by one.
std::map<NodeId, NodeTime> NodeTimes(const Trace& trace, const std::vector<Trace>& steps) {
  std::map<NodeId, NodeTime> nodes;
  std::map<NodeId, std::vector<int64_t>> durations, work;
  for (const Trace& step : steps) {
    const std::vector<int64_t> exposed = ExposedBySpan(step);
    const std::map<NodeId, Joined> joined = JoinedOf(step);
    for (size_t i = 0; i < step.spans.size(); ++i) {
      const Span& s = step.spans[i];
      NodeTime& time = nodes[s.node];
      const int64_t duration = s.end_ns - s.begin_ns;
      time.what = ClassOf(trace, s);
      time.total_ns += duration;
      time.exposed_ns += exposed[i];
      ++time.count;
      durations[s.node].push_back(duration);
      const auto at = joined.find(s.node);
      work[s.node].push_back(
          at == joined.end() ? duration : std::max<int64_t>(0, s.end_ns - at->second.last_begin));
    }
  }
  for (auto& [id, time] : nodes) {
    const Node& node = trace.plan->graph.nodes()[id];
    time.name = node.name;
    time.op = node.op;
    time.stage = IntAttr(node, "stage", -1);
    time.median_ns = Median(durations[id]);
    time.work_median_ns = Median(work[id]);
  }
  return nodes;
}

// Adds the step's lateness to the ranks'.
StepLate LateIn(const Trace& step, const std::vector<RankTime>& compute,
                std::map<int, RankLate>& ranks) {
  StepLate late;
  late.step = step.steps[0].step;
  for (const RankTime& r : compute) {
    late.mean_compute_ns += r.compute_ns;
    if (late.slowest_rank >= 0 && r.compute_ns <= late.slowest_ns) continue;
    late.slowest_rank = r.rank;
    late.slowest_ns = r.compute_ns;
  }
  late.mean_compute_ns /= std::max<int64_t>(1, static_cast<int64_t>(compute.size()));
  std::map<int, int64_t> times_last;
  for (const auto& [node, joined] : JoinedOf(step)) {
    const Span* last = nullptr;
    int64_t at_last = 0, waited = 0;
    for (const Span* s : joined.spans) {
      waited += joined.last_begin - s->begin_ns;
      ranks[s->rank].waited_ns += joined.last_begin - s->begin_ns;
      if (s->begin_ns != joined.last_begin) continue;
      last = s;
      ++at_last;
    }
    if (at_last != 1 || waited == 0) continue;  // nobody was late alone
    ++times_last[last->rank];
    ++ranks[last->rank].times_last;
    ranks[last->rank].caused_ns += waited;
  }
  for (const auto& [rank, times] : times_last) {
    if (times <= late.times_last) continue;
    late.last_rank = rank;
    late.times_last = times;
  }
  return late;
}

std::vector<StageUse> StagesOf(const Trace& trace, const std::map<NodeId, NodeTime>& nodes,
                               int64_t ranks_and_steps) {
  std::map<int64_t, StageUse> stages;
  for (const auto& [id, time] : nodes) {
    if (time.stage < 0) continue;
    const Node& node = trace.plan->graph.nodes()[id];
    StageUse& stage = stages[time.stage];
    stage.stage = time.stage;
    if (stage.name.empty()) stage.name = StageName(node);
    // Model FLOPs, as MFU counts them: what is computed a second time takes time only.
    if (node.op != "recompute") stage.flops += node.flops;
    stage.ns += time.total_ns;
  }
  std::vector<StageUse> list;
  for (auto& [id, stage] : stages) {
    stage.ns /= std::max<int64_t>(1, ranks_and_steps);
    if (trace.peak_flops_per_second > 0 && stage.ns > 0) {
      stage.share_of_peak = static_cast<double>(stage.flops) /
                            (static_cast<double>(stage.ns) * 1e-9 * trace.peak_flops_per_second);
    }
    list.push_back(std::move(stage));
  }
  return list;
}

std::vector<Trace> StepsOf(const Trace& trace) {
  std::vector<Trace> steps;
  for (size_t i = 0; i < trace.steps.size(); ++i) steps.push_back(StepOf(trace, i));
  return steps;
}

void AddPrediction(const Trace& predicted, Analysis& a) {
  const std::vector<Trace> steps = StepsOf(predicted);
  std::vector<int64_t> lengths;
  for (const StepMark& s : predicted.steps) lengths.push_back(s.end_ns - s.begin_ns);
  if (lengths.empty()) return;
  a.predicted_step_ns = Median(lengths);
  std::map<std::string, int64_t> by_name;
  for (const auto& [id, time] : NodeTimes(predicted, steps))
    by_name[time.name] = time.work_median_ns;
  for (NodeTime& node : a.nodes) {
    const auto at = by_name.find(node.name);
    if (at != by_name.end()) node.predicted_ns = at->second;
  }
}

double Share(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

}  // namespace

double Analysis::CommunicationShare() const {
  int64_t sum = 0;
  for (const RankTime& r : breakdown.ranks) sum += r.communication_ns;
  return Share(sum, breakdown.steps_ns * static_cast<int64_t>(breakdown.ranks.size()));
}

double Analysis::ExposedShare() const {
  int64_t sum = 0;
  for (const RankTime& r : breakdown.ranks) sum += r.exposed_ns;
  return Share(sum, breakdown.steps_ns * static_cast<int64_t>(breakdown.ranks.size()));
}

double Analysis::Overlap() const {
  int64_t all = 0, exposed = 0;
  for (const RankTime& r : breakdown.ranks) {
    all += r.communication_ns;
    exposed += r.exposed_ns;
  }
  return Share(all - exposed, all);
}

Analysis Analyze(const Trace& trace, const Trace* predicted) {
  Analysis a;
  a.title = trace.title;
  a.plan_hash = trace.plan->hash;
  a.machine = trace.plan->machine;
  a.predicted = trace.predicted;
  a.world_size = trace.plan->world_size;
  a.dropped = trace.dropped;
  a.peak_flops_per_second = trace.peak_flops_per_second;
  a.breakdown = BreakDown(trace);

  const std::vector<Trace> steps = StepsOf(trace);
  std::vector<int64_t> lengths;
  std::map<int, RankLate> late;
  for (const Trace& step : steps) {
    const StepMark& mark = step.steps[0];
    a.steps.push_back({mark.step, mark.end_ns - mark.begin_ns, BreakDown(step).ranks});
    lengths.push_back(a.steps.back().ns);
    a.late_by_step.push_back(LateIn(step, a.steps.back().ranks, late));
    a.collectives = std::max(a.collectives, static_cast<int64_t>(JoinedOf(step).size()));
  }
  for (const RankTime& r : a.breakdown.ranks) {
    late[r.rank].rank = r.rank;
    a.late_by_rank.push_back(late[r.rank]);
  }
  const std::map<NodeId, NodeTime> nodes = NodeTimes(trace, steps);
  for (const auto& [id, time] : nodes) a.nodes.push_back(time);
  a.stages =
      StagesOf(trace, nodes,
               static_cast<int64_t>(steps.size()) * static_cast<int64_t>(a.breakdown.ranks.size()));
  if (!steps.empty()) {
    a.step_median_ns = Median(lengths);
    const size_t median = static_cast<size_t>(
        std::find(lengths.begin(), lengths.end(), a.step_median_ns) - lengths.begin());
    a.path_step = a.steps[median].step;
    for (const PathPart& part : CriticalPath(steps[median])) {
      const auto at = nodes.find(part.node);
      a.path.push_back({part, at == nodes.end() ? "" : at->second.name,
                        at == nodes.end() ? SpanClass::kCompute : at->second.what});
    }
  }
  if (a.peak_flops_per_second > 0 && a.step_median_ns > 0) {
    int64_t flops = 0;
    for (const StageUse& s : a.stages) flops += s.flops;
    a.share_of_peak = static_cast<double>(flops) /
                      (static_cast<double>(a.step_median_ns) * 1e-9 * a.peak_flops_per_second);
  }
  if (predicted != nullptr) AddPrediction(*predicted, a);
  return a;
}

}  // namespace millrace
