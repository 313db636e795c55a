// Spans of the prediction and of the run as parallel arrays: the part of report_data.h that timelines are drawn of.
#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "graph/base/median.h"
#include "tools/report/report_data.h"
#include "tools/report/spans.h"

namespace millrace {
namespace {

using Json = ReportJson;

std::vector<int> PlanOfRanks(const Plan& plan) {
  std::vector<int> index(plan.world_size, 0);
  for (size_t p = 0; p < plan.rank_plans.size(); ++p) {
    for (int rank : plan.rank_plans[p].ranks) index[rank] = static_cast<int>(p);
  }
  return index;
}

// cause: the predecessor that ended last; edge: its kind; -1: none.
Json SpansJson(const RankPlan& rank_plan, const std::vector<Span>& spans, int64_t origin) {
  std::vector<int64_t> node, lane, begin, ns, wait, cause, edge;
  const std::vector<Cause> causes = Causes(rank_plan, spans);
  for (size_t i = 0; i < spans.size(); ++i) {
    const Span& s = spans[i];
    node.push_back(s.node);
    lane.push_back(s.lane);
    begin.push_back(s.begin_ns - origin);
    ns.push_back(s.end_ns - s.begin_ns);
    wait.push_back(std::max<int64_t>(0, s.begin_ns - std::max(s.ready_ns, s.credit_ns)));
    cause.push_back(causes[i].node);
    edge.push_back(causes[i].node < 0 ? -1 : static_cast<int>(causes[i].kind));
  }
  return {{"node", node}, {"lane", lane},   {"begin", begin}, {"ns", ns},
          {"wait", wait}, {"cause", cause}, {"edge", edge}};
}

// [begin, end, begin, end, ...] and their sum.
void AddExposed(const Plan& plan, const RankPlan& rank_plan, const std::vector<Span>& spans,
                int64_t origin, Json* into) {
  Json flat = Json::array();
  int64_t sum = 0;
  for (const auto& [begin, end] : Exposed(plan.graph, rank_plan, spans)) {
    flat.push_back(begin - origin);
    flat.push_back(end - origin);
    sum += end - begin;
  }
  (*into)["exposed"] = std::move(flat);
  (*into)["exposed_ns"] = sum;
}

bool SameTimes(const std::vector<Span>& a, const std::vector<Span>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Span& x, const Span& y) {
    return x.node == y.node && x.lane == y.lane && x.begin_ns == y.begin_ns &&
           x.end_ns == y.end_ns && x.ready_ns == y.ready_ns && x.credit_ns == y.credit_ns;
  });
}

// The step whose length is the median's: the one to look at first.
size_t MedianStep(const std::vector<StepMark>& steps) {
  std::vector<size_t> order(steps.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return steps[a].end_ns - steps[a].begin_ns < steps[b].end_ns - steps[b].begin_ns;
  });
  return order[order.size() / 2];
}

}  // namespace

Json PredictedJson(const Plan& plan, const SimResult& predicted, const ReportLimits& limits,
                   std::vector<std::string>* notes) {
  const std::vector<int> plan_of = PlanOfRanks(plan);
  struct Group {
    int plan = 0;
    std::vector<int> ranks;
    std::vector<Span> spans;
  };
  std::vector<Group> groups;
  int64_t left_out = 0;
  for (size_t i = 0; i < predicted.spans.size();) {
    std::vector<Span> spans;
    const int rank = predicted.spans[i].rank;
    for (; i < predicted.spans.size() && predicted.spans[i].rank == rank; ++i) {
      spans.push_back(predicted.spans[i]);
    }
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const Group& g) {
      return g.plan == plan_of[rank] && SameTimes(g.spans, spans);
    });
    if (same != groups.end()) {
      same->ranks.push_back(rank);
    } else if (static_cast<int64_t>(groups.size()) < limits.groups) {
      groups.push_back({plan_of[rank], {rank}, std::move(spans)});
    } else {
      ++left_out;
    }
  }
  if (left_out > 0) {
    notes->push_back(absl::StrCat("The predicted timeline shows ", groups.size(),
                                  " kinds of ranks; ", left_out,
                                  " ranks that differ from them are left out."));
  }
  const auto end_ns = static_cast<int64_t>(predicted.step_seconds * 1e9 + 0.5);
  Json list = Json::array();
  for (const Group& g : groups) {
    const RankPlan& rank_plan = plan.rank_plans[g.plan];
    Json json = {{"ranks", g.ranks}, {"plan", g.plan}, {"spans", SpansJson(rank_plan, g.spans, 0)}};
    if (groups.size() == 1 && left_out == 0) {
      json["spans"]["slack"] = Slack(plan.graph, rank_plan, g.spans, end_ns);
    }
    AddExposed(plan, rank_plan, g.spans, 0, &json);
    list.push_back(std::move(json));
  }
  return {{"ns", end_ns}, {"groups", std::move(list)}};
}

Json MeasuredJson(const Plan& plan, const Trace& trace, const ReportLimits& limits,
                  std::vector<std::string>* notes) {
  const std::vector<int> plan_of = PlanOfRanks(plan);
  const size_t steps = trace.steps.size();
  std::vector<std::map<int, std::vector<Span>>> spans(steps);  // per step: by rank
  std::vector<std::vector<int64_t>> durations(plan.graph.nodes().size());
  size_t step = 0;
  int64_t of_step = 0;  // most spans of any
  for (const Span& s : trace.spans) {
    while (step + 1 < steps && s.begin_ns >= trace.steps[step + 1].begin_ns) ++step;
    spans[step][s.rank].push_back(s);
    durations[s.node].push_back(s.end_ns - s.begin_ns);
  }
  for (const auto& by_rank : spans) {
    int64_t sum = 0;
    for (const auto& [rank, list] : by_rank) sum += static_cast<int64_t>(list.size());
    of_step = std::max(of_step, sum);
  }
  // The median's step first, then the newest, as many as fit.
  const size_t median = MedianStep(trace.steps);
  const int64_t fit = std::max<int64_t>(1, limits.spans / std::max<int64_t>(1, of_step));
  std::vector<size_t> shown = {median};
  for (size_t i = steps; i-- > 0 && static_cast<int64_t>(shown.size()) < fit;) {
    if (i != median) shown.push_back(i);
  }
  std::sort(shown.begin(), shown.end());

  Json list = Json::array();
  int64_t exposed_ns = 0;
  size_t ranks_left_out = 0;
  for (size_t i : shown) {
    const StepMark& mark = trace.steps[i];
    Json ranks = Json::array();
    int64_t kept = 0, worst = 0;
    size_t without = 0;
    for (const auto& [rank, of_rank] : spans[i]) {
      kept += static_cast<int64_t>(of_rank.size());
      if (kept > limits.spans && !ranks.empty()) {
        ++without;
        continue;
      }
      const RankPlan& rank_plan = plan.rank_plans[plan_of[rank]];
      Json json = {{"rank", rank}, {"spans", SpansJson(rank_plan, of_rank, mark.begin_ns)}};
      AddExposed(plan, rank_plan, of_rank, mark.begin_ns, &json);
      worst = std::max(worst, json["exposed_ns"].get<int64_t>());
      ranks.push_back(std::move(json));
    }
    ranks_left_out = std::max(ranks_left_out, without);
    if (i == median) exposed_ns = worst;
    list.push_back(
        {{"step", mark.step}, {"ns", mark.end_ns - mark.begin_ns}, {"ranks", std::move(ranks)}});
  }
  if (shown.size() < steps) {
    notes->push_back(absl::StrCat("The measured timeline shows ", shown.size(), " of ", steps,
                                  " recorded steps; the table's medians are over all of them."));
  }
  if (ranks_left_out > 0) {
    notes->push_back(absl::StrCat("The measured timeline leaves out the last ", ranks_left_out,
                                  " ranks; the table's medians are over all of them."));
  }
  if (trace.dropped > 0) {
    notes->push_back(absl::StrCat("The recorder lost the oldest ", trace.dropped, " spans."));
  }
  Json medians = Json::array();
  for (std::vector<int64_t>& d : durations) {
    medians.push_back(d.empty() ? Json(nullptr) : Json(Median(std::move(d))));
  }
  return {{"median_step", trace.steps[median].step},
          {"exposed_ns", exposed_ns},  // of that step's worst rank
          {"recorded_steps", steps},
          {"node_ns", std::move(medians)},
          {"steps", std::move(list)}};
}

}  // namespace millrace
