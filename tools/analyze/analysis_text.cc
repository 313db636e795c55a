// The analysis of one run for people: milliseconds per step, the longest first.
#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/analyze/analysis.h"

namespace millrace {
namespace {

double Percent(int64_t part, int64_t whole) {
  return whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0;
}

class Page {
 public:
  Page(const Analysis& a, int top)
      : a_(a),
        top_(static_cast<size_t>(std::max(top, 1))),
        steps_(std::max<int64_t>(1, a.breakdown.steps)) {}

  std::string Text() {
    Head();
    Ranks();
    IdleByCause();
    Exposed();
    Late();
    Path();
    Stages();
    Prediction();
    return std::move(out_);
  }

 private:
  double PerStep(int64_t ns) const {
    return static_cast<double>(ns) * 1e-6 / static_cast<double>(steps_);
  }
  static double Ms(int64_t ns) { return static_cast<double>(ns) * 1e-6; }

  void More(size_t all, const char* what) {
    if (all > top_)
      absl::StrAppend(&out_, "and ", all - top_, " more ", what, "; --json has all\n");
  }

  void Head() {
    absl::StrAppendFormat(&out_, "%s (%s): %d steps, median %.3f ms, %d ranks\n", a_.title,
                          a_.predicted ? "predicted" : "measured", a_.breakdown.steps,
                          Ms(a_.step_median_ns), a_.world_size);
    if (a_.dropped > 0)
      absl::StrAppendFormat(&out_, "%d spans of older steps were lost: their rings were full\n",
                            a_.dropped);
  }

  void Ranks() {
    absl::StrAppendFormat(&out_, "\nms per step %9s %16s %13s %9s | %13s %8s\n", "compute",
                          "exposed comm.", "exposed copy", "idle", "communication", "overlap");
    for (size_t i = 0; i < std::min(top_, a_.breakdown.ranks.size()); ++i) {
      const RankTime& r = a_.breakdown.ranks[i];
      const int64_t all = a_.breakdown.steps_ns;
      absl::StrAppendFormat(
          &out_, "rank %-6d %10.3f %4.1f%% %10.3f %4.1f%% %13.3f %9.3f | %13.3f %7.1f%%\n", r.rank,
          PerStep(r.compute_ns), Percent(r.compute_ns, all), PerStep(r.exposed_ns),
          Percent(r.exposed_ns, all), PerStep(r.exposed_copy_ns), PerStep(r.idle_ns),
          PerStep(r.communication_ns),
          Percent(r.communication_ns - r.exposed_ns, r.communication_ns));
    }
    More(a_.breakdown.ranks.size(), "ranks");
  }

  void IdleByCause() {
    absl::StrAppendFormat(&out_, "\nidle by cause, ms per step %10s %9s %9s %9s %9s\n", "data",
                          "lane", "credit", "wake-up", "after");
    for (size_t i = 0; i < std::min(top_, a_.breakdown.lanes.size()); ++i) {
      const LaneTime& l = a_.breakdown.lanes[i];
      absl::StrAppendFormat(&out_, "%-26s %10.3f %9.3f %9.3f %9.3f %9.3f\n",
                            absl::StrFormat("rank %d %s", l.rank, l.name), PerStep(l.wait_data_ns),
                            PerStep(l.wait_lane_ns), PerStep(l.wait_credit_ns),
                            PerStep(l.wake_up_ns), PerStep(l.rest_ns));
    }
    More(a_.breakdown.lanes.size(), "lanes");
  }

  void Exposed() {
    std::vector<const NodeTime*> nodes;
    for (const NodeTime& n : a_.nodes) {
      if (n.exposed_ns > 0) nodes.push_back(&n);
    }
    std::stable_sort(nodes.begin(), nodes.end(), [](const NodeTime* x, const NodeTime* y) {
      return x->exposed_ns > y->exposed_ns;
    });
    if (nodes.empty()) return;
    absl::StrAppend(&out_, "\nexposed communication by node, ms per step and rank\n");
    const auto ranks = static_cast<double>(a_.breakdown.ranks.size());
    for (size_t i = 0; i < std::min(top_, nodes.size()); ++i) {
      absl::StrAppendFormat(&out_, "%9.3f  %s\n", PerStep(nodes[i]->exposed_ns) / ranks,
                            nodes[i]->name);
    }
    if (nodes.size() > top_)
      absl::StrAppend(&out_, "           and ", nodes.size() - top_, " more\n");
  }

  void Late() {
    if (a_.world_size < 2 || a_.collectives == 0) return;
    absl::StrAppend(&out_, "\nstragglers: ", a_.collectives,
                    " collectives a step; last = times it came alone as the last\n");
    std::vector<RankLate> ranks;
    for (const RankLate& r : a_.late_by_rank) {
      if (r.waited_ns > 0 || r.caused_ns > 0) ranks.push_back(r);
    }
    std::stable_sort(ranks.begin(), ranks.end(), [](const RankLate& x, const RankLate& y) {
      return x.caused_ns > y.caused_ns;
    });
    if (ranks.empty()) absl::StrAppend(&out_, "all ranks arrive together\n");
    for (size_t i = 0; i < std::min(top_, ranks.size()); ++i) {
      const RankLate& r = ranks[i];
      absl::StrAppendFormat(
          &out_,
          "rank %-4d last %4d times, others waited %9.3f ms per step for it, it waited %9.3f\n",
          r.rank, r.times_last, PerStep(r.caused_ns), PerStep(r.waited_ns));
    }
    More(ranks.size(), "ranks");
    for (size_t i = 0; i < std::min(top_, a_.late_by_step.size()); ++i) {
      const StepLate& s = a_.late_by_step[i];
      absl::StrAppendFormat(&out_, "step %-6d slowest compute rank %d: %.3f ms (mean %.3f)", s.step,
                            s.slowest_rank, Ms(s.slowest_ns), Ms(s.mean_compute_ns));
      if (s.last_rank >= 0)
        absl::StrAppendFormat(&out_, "; last at most collectives rank %d (%d)", s.last_rank,
                              s.times_last);
      absl::StrAppend(&out_, "\n");
    }
  }

  void Path() {
    if (a_.path.empty()) return;
    std::map<std::string, int64_t> by_class;
    for (const PathNode& p : a_.path)
      by_class[p.part.waiting ? "waiting" : ClassName(p.what)] += p.part.end_ns - p.part.begin_ns;
    absl::StrAppend(&out_, "\ncritical path of step ", a_.path_step, ": ");
    for (const auto& [name, ns] : by_class)
      absl::StrAppendFormat(&out_, "%s %.3f ms, ", name, Ms(ns));
    absl::StrAppend(&out_, a_.path.size(), " parts; the longest\n");
    std::vector<const PathNode*> parts;
    for (const PathNode& p : a_.path) parts.push_back(&p);
    std::stable_sort(parts.begin(), parts.end(), [](const PathNode* x, const PathNode* y) {
      return x->part.end_ns - x->part.begin_ns > y->part.end_ns - y->part.begin_ns;
    });
    for (size_t i = 0; i < std::min(top_, parts.size()); ++i) {
      const PathNode& p = *parts[i];
      absl::StrAppendFormat(&out_, "%9.3f  rank %d  %s%s\n", Ms(p.part.end_ns - p.part.begin_ns),
                            p.part.rank, p.part.waiting ? "waiting before " : "",
                            p.node.empty() ? "the end of the step" : p.node);
    }
  }

  void Stages() {
    if (a_.stages.empty()) return;
    const bool known = a_.peak_flops_per_second > 0;
    absl::StrAppend(&out_, "\nstages, one rank and step       GFLOP        ms   GFLOP/s",
                    known ? "      MFU\n" : "\n");
    std::vector<const StageUse*> stages;
    for (const StageUse& s : a_.stages) stages.push_back(&s);
    std::stable_sort(stages.begin(), stages.end(),
                     [](const StageUse* x, const StageUse* y) { return x->ns > y->ns; });
    for (size_t i = 0; i < std::min(top_, stages.size()); ++i) {
      const StageUse& s = *stages[i];
      absl::StrAppendFormat(
          &out_, "%-24s %12.3f %9.3f %9.1f",
          s.name.empty() ? absl::StrCat("stage ", s.stage) : s.name,
          static_cast<double>(s.flops) * 1e-9, Ms(s.ns),
          s.ns > 0 ? static_cast<double>(s.flops) / static_cast<double>(s.ns) : 0);
      if (known) absl::StrAppendFormat(&out_, " %7.1f%%", 100 * s.share_of_peak);
      absl::StrAppend(&out_, "\n");
    }
    if (stages.size() > top_)
      absl::StrAppend(&out_, "and ", stages.size() - top_, " shorter ones\n");
    if (known) {
      absl::StrAppendFormat(&out_, "whole step: %.1f%% of the machine's %.3g GFLOP/s a rank\n",
                            100 * a_.share_of_peak, a_.peak_flops_per_second * 1e-9);
    }
  }

  void Prediction() {
    if (a_.predicted_step_ns < 0) return;
    absl::StrAppendFormat(&out_, "\npredicted step %.3f ms, measured %.3f: %+.1f%%\n",
                          Ms(a_.predicted_step_ns), Ms(a_.step_median_ns),
                          a_.step_median_ns > 0
                              ? 100.0 *
                                    static_cast<double>(a_.predicted_step_ns - a_.step_median_ns) /
                                    static_cast<double>(a_.step_median_ns)
                              : 0.0);
    std::vector<const NodeTime*> nodes;
    for (const NodeTime& n : a_.nodes) {
      if (n.predicted_ns >= 0 && n.what != SpanClass::kIssue) nodes.push_back(&n);
    }
    std::stable_sort(nodes.begin(), nodes.end(), [](const NodeTime* x, const NodeTime* y) {
      return std::abs(x->work_median_ns - x->predicted_ns) >
             std::abs(y->work_median_ns - y->predicted_ns);
    });
    absl::StrAppend(&out_,
                    "  predicted   measured  node (ms; collectives from the last arrival)\n");
    for (size_t i = 0; i < std::min(top_, nodes.size()); ++i) {
      absl::StrAppendFormat(&out_, "%11.3f %10.3f  %s\n", Ms(nodes[i]->predicted_ns),
                            Ms(nodes[i]->work_median_ns), nodes[i]->name);
    }
  }

  const Analysis& a_;
  const size_t top_;
  const int64_t steps_;
  std::string out_;
};

}  // namespace

std::string AnalysisText(const Analysis& analysis, int top) { return Page(analysis, top).Text(); }

}  // namespace millrace
