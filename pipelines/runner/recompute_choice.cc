#include "pipelines/runner/recompute_choice.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "graph/base/status.h"
#include "graph/lower/lower.h"
#include "graph/lower/recompute.h"
#include "graph/plan/cost_model.h"
#include "graph/plan/planner.h"

namespace millrace {
namespace {

constexpr int kDevice = static_cast<int>(Tier::kDevice);

struct Candidate {
  size_t stage = 0;
  int64_t bytes = 0;   // saved, per micro-batch
  double seconds = 0;  // of recomputing it once
};

class Chooser {
 public:
  Chooser(const ModelSpec& spec, const LowerOptions& options, const Machine& machine,
          const PlanOptions& plan_options)
      : spec_(spec), options_(options), machine_(machine), plan_options_(plan_options) {
    plan_options_.world_size = options.world_size;
    plan_options_.check_budget = false;
    choice_.budget_bytes = machine.device().memory_bytes();
  }

  absl::StatusOr<RecomputeChoice> Run() {
    ASSIGN_OR_RETURN(const Plan plain, PlanOf(0));
    choice_.plain_peak_bytes = choice_.peak_bytes = Peak(plain);
    RETURN_IF_ERROR(FindCandidates());
    if (choice_.peak_bytes <= choice_.budget_bytes) return choice_;
    ASSIGN_OR_RETURN(const Plan all, PlanOf(order_.size()));
    if (Peak(all) > choice_.budget_bytes) return TooMuch(all);
    // The smallest number that fits: too few is below, enough is above.
    size_t below = 0, enough = order_.size();
    choice_.peak_bytes = Peak(all);
    while (enough - below > 1) {
      const size_t middle = (below + enough) / 2;
      ASSIGN_OR_RETURN(const Plan plan, PlanOf(middle));
      if (Peak(plan) <= choice_.budget_bytes) {
        enough = middle;
        choice_.peak_bytes = Peak(plan);
      } else {
        below = middle;
      }
    }
    choice_.stages = Names(enough);
    for (size_t i = 0; i < enough; ++i) {
      choice_.saved_bytes += order_[i].bytes;
      choice_.recompute_seconds += order_[i].seconds * options_.accumulation;
    }
    return choice_;
  }

 private:
  static int64_t Peak(const Plan& plan) { return plan.rank_plans[0].arena_bytes[kDevice]; }

  // With the first `n` candidates recomputed.
  absl::StatusOr<Plan> PlanOf(size_t n) const {
    LowerOptions options = options_;
    options.recompute = {.stages = Names(n), .offload_inputs = options_.recompute.offload_inputs};
    ASSIGN_OR_RETURN(Graph graph, Lower(spec_, options));
    return MakePlan(std::move(graph), machine_, plan_options_);
  }

  std::vector<std::string> Names(size_t n) const {
    std::vector<size_t> stages;
    for (size_t i = 0; i < n; ++i) stages.push_back(order_[i].stage);
    std::sort(stages.begin(), stages.end());
    std::vector<std::string> names;
    for (size_t s : stages) names.push_back(spec_.stages[s].name);
    return names;
  }

  absl::Status FindCandidates() {
    const std::vector<bool> possible = RecomputedStages(spec_, {.all = true});
    LowerOptions options = options_;
    options.recompute = {.all = true};
    if (std::count(possible.begin(), possible.end(), true) == 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(const Graph graph, Lower(spec_, options));
    const std::vector<double> seconds = NodeSeconds(graph, machine_, plan_options_.costs);
    for (size_t s = 0; s < possible.size(); ++s) {
      if (!possible[s]) continue;
      const NodeId node = graph.FindNode(absl::StrCat("recompute/", spec_.stages[s].name, "/0"));
      if (node < 0) return absl::InternalError("a recomputed stage has no node");
      order_.push_back({s, spec_.stages[s].saved_bytes, seconds[node]});
    }
    choice_.candidates = static_cast<int>(order_.size());
    std::stable_sort(order_.begin(), order_.end(), [](const Candidate& a, const Candidate& b) {
      return static_cast<double>(a.bytes) * b.seconds > static_cast<double>(b.bytes) * a.seconds;
    });
    return absl::OkStatus();
  }

  absl::Status TooMuch(const Plan& all) const {
    const RankPlan& rank = all.rank_plans[0];
    std::string text = absl::StrFormat(
        "memory.recompute.auto: even with all %d stages recomputed a rank needs %d bytes of device "
        "memory, %d more than the budget of %d (%d without recompute); at the peak:",
        choice_.candidates, Peak(all), Peak(all) - choice_.budget_bytes, choice_.budget_bytes,
        choice_.plain_peak_bytes);
    int shown = 0;
    for (const PeakEntry& e : rank.at_peak) {
      if (e.tier != Tier::kDevice || ++shown > 6) continue;
      absl::StrAppend(&text, "\n  ", e.bytes, "  ", e.what);
    }
    absl::StrAppend(
        &text, "\nwhat would help: ",
        options_.world_size > 1 && options_.zero_stage < 3 ? "a higher parallel.zero.stage; " : "",
        "a smaller train.micro_batch; more ranks (`millrace advise` compares them)");
    return absl::ResourceExhaustedError(text);
  }

  const ModelSpec& spec_;
  const LowerOptions options_;
  const Machine& machine_;
  PlanOptions plan_options_;
  std::vector<Candidate> order_;  // best first
  RecomputeChoice choice_;
};

}  // namespace

absl::StatusOr<RecomputeChoice> ChooseRecompute(const ModelSpec& spec, LowerOptions options,
                                                const Machine& machine, PlanOptions plan_options) {
  return Chooser(spec, options, machine, plan_options).Run();
}

std::string ToText(const RecomputeChoice& c) {
  if (c.stages.empty()) {
    return absl::StrFormat(
        "recompute auto: none; the plan's %.3f GB fit the budget of %.3f GB as they are\n",
        static_cast<double>(c.plain_peak_bytes) / 1e9, static_cast<double>(c.budget_bytes) / 1e9);
  }
  const std::string names = c.stages.size() <= 4 ? absl::StrJoin(c.stages, ", ")
                                                 : absl::StrCat(c.stages.front(), ", ", c.stages[1],
                                                                ", ... ", c.stages.back());
  return absl::StrFormat(
      "recompute auto: %d of %d stages (%s), the fewest that bring %.3f GB down to %.3f GB, within "
      "the budget of %.3f GB; they would keep %.3f GB per micro-batch and take %.3g s a step to "
      "run again\n",
      c.stages.size(), c.candidates, names, static_cast<double>(c.plain_peak_bytes) / 1e9,
      static_cast<double>(c.peak_bytes) / 1e9, static_cast<double>(c.budget_bytes) / 1e9,
      static_cast<double>(c.saved_bytes) / 1e9, c.recompute_seconds);
}

}  // namespace millrace
