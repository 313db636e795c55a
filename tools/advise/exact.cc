#include "tools/advise/exact.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "graph/base/status.h"
#include "graph/lower/lower.h"
#include "graph/lower/recompute.h"
#include "graph/plan/planner.h"
#include "graph/sim/simulate.h"
#include "pipelines/runner/recompute_choice.h"

namespace millrace {
namespace {

constexpr int kDevice = static_cast<int>(Tier::kDevice);
constexpr double kAsFast = 0.001;  // steps that differ by less count as equal

std::string Gb(int64_t bytes) {
  const double gb = static_cast<double>(bytes) / 1e9;
  return gb >= 0.01 ? absl::StrFormat("%.2f GB", gb)
                    : absl::StrFormat("%.2f MB", static_cast<double>(bytes) / 1e6);
}

std::string Seconds(double s) {
  return s >= 1 ? absl::StrFormat("%.3f s", s) : absl::StrFormat("%.2f ms", s * 1e3);
}

std::string NameOf(const ExactChoice& c) {
  return absl::StrCat("stage ", c.zero_stage,
                      c.recompute == "none" ? "" : absl::StrCat(" with recompute ", c.recompute));
}

class Advisor {
 public:
  explicit Advisor(const ExactInput& input) : in_(input) {}

  absl::StatusOr<ExactAdvice> Run() {
    const int last =
        in_.options.world_size > 1 ? 3 : 0;  // with one rank all four are the same step
    for (int stage = 0; stage <= last; ++stage) {
      RETURN_IF_ERROR(Try(stage, "none", {}));
      RETURN_IF_ERROR(Auto(stage));
      RETURN_IF_ERROR(Try(stage, "every 2nd", {.every = 2}));
      RETURN_IF_ERROR(Try(stage, "all", {.all = true}));
    }
    Pick();
    for (size_t i = 0; i < out_.choices.size(); ++i) Explain(static_cast<int>(i));
    if (out_.fastest < 0) {
      RETURN_IF_ERROR(Help());
      RETURN_IF_ERROR(Offload());
    }
    return std::move(out_);
  }

 private:
  int64_t budget() const { return in_.machine.device().memory_bytes(); }

  absl::Status Measure(const ModelSpec& spec, LowerOptions options, ExactChoice* c) const {
    ASSIGN_OR_RETURN(Graph graph, Lower(spec, options));
    ASSIGN_OR_RETURN(
        const Plan plan,
        MakePlan(std::move(graph), in_.machine,
                 {.world_size = options.world_size, .check_budget = false, .costs = in_.costs}));
    ASSIGN_OR_RETURN(const SimResult sim, Simulate(plan, in_.machine, {.details = false}));
    const RankPlan& rank = plan.rank_plans[0];
    c->planned = true;
    c->peak_bytes = rank.arena_bytes[kDevice];
    c->states_bytes = rank.persistent_bytes[kDevice];
    c->transient_bytes = c->peak_bytes - c->states_bytes;
    c->fits = c->peak_bytes <= budget();
    c->step_seconds = sim.step_seconds;
    c->exposed_comm_seconds = sim.exposed_comm_seconds;
    for (size_t n = 0; n < plan.graph.nodes().size(); ++n) {
      if (plan.graph.nodes()[n].op == "recompute") c->recompute_seconds += rank.seconds[n];
    }
    return absl::OkStatus();
  }

  ExactChoice& Add(int stage, const char* name) {
    ExactChoice& c = out_.choices.emplace_back();
    c.zero_stage = stage;
    c.recompute = name;
    if (in_.options.world_size > 1) c.settings = {absl::StrCat("parallel.zero.stage=", stage)};
    return c;
  }

  LowerOptions OptionsOf(int stage, const RecomputeOptions& recompute) const {
    LowerOptions options = in_.options;
    options.zero_stage = stage;
    options.recompute = recompute;
    return options;
  }

  absl::Status Try(int stage, const char* name, const RecomputeOptions& recompute) {
    ExactChoice& c = Add(stage, name);
    if (recompute.all) c.settings.push_back("memory.recompute.all=true");
    if (recompute.every > 0) {
      c.settings.push_back(absl::StrCat("memory.recompute.every=", recompute.every));
    }
    const std::vector<bool> stages = RecomputedStages(in_.spec, recompute);
    c.recomputed = static_cast<int>(std::count(stages.begin(), stages.end(), true));
    if (recompute.any() && c.recomputed == 0) {
      c.why = "matches no stage of the model that saves anything";
      return absl::OkStatus();
    }
    return Measure(in_.spec, OptionsOf(stage, recompute), &c);
  }

  // The fewest stages that fit; Try(stage, "none") came before.
  absl::Status Auto(int stage) {
    const ExactChoice none = out_.choices.back();
    ExactChoice& c = Add(stage, "auto");
    c.settings.push_back("memory.recompute.auto=true");
    if (none.fits) {
      c.why = "would recompute nothing: the plan without fits";
      return absl::OkStatus();
    }
    const absl::StatusOr<RecomputeChoice> choice =
        ChooseRecompute(in_.spec, OptionsOf(stage, {}), in_.machine, {.costs = in_.costs});
    if (choice.status().code() == absl::StatusCode::kResourceExhausted) {
      c.why = "has no choice that fits: not even recomputing all stages does";
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(choice.status());
    c.recomputed = static_cast<int>(choice->stages.size());
    return Measure(in_.spec, OptionsOf(stage, {.stages = choice->stages}), &c);
  }

  void Pick() {
    double best = 0;
    for (const ExactChoice& c : out_.choices) {
      if (c.fits && (best == 0 || c.step_seconds < best)) best = c.step_seconds;
    }
    for (size_t i = 0; i < out_.choices.size(); ++i) {
      const ExactChoice& c = out_.choices[i];
      if (!c.fits) continue;
      if (out_.first < 0) out_.first = static_cast<int>(i);
      if (out_.fastest < 0 && c.step_seconds <= best * (1 + kAsFast)) {
        out_.fastest = static_cast<int>(i);
      }
    }
  }

  const ExactChoice& Find(int stage, const std::string& recompute) const {
    return *std::find_if(out_.choices.begin(), out_.choices.end(), [&](const ExactChoice& c) {
      return c.zero_stage == stage && c.recompute == recompute;
    });
  }

  void Explain(int i) {
    ExactChoice& c = out_.choices[i];
    if (!c.planned) return;  // said already
    if (!c.fits) {
      c.why = TooLarge(c);
    } else if (i == out_.fastest) {
      c.why = absl::StrCat("the fastest that fits", i == out_.first ? ", and the first" : "");
    } else {
      c.why = Slower(c, out_.choices[out_.fastest]);
      if (i == out_.first) c.why = absl::StrCat("the first that fits, but ", c.why);
    }
  }

  // "needs 95.20 GB of 80.00 GB: states are 10.10 GB, activations and buffers 85.10 GB: recompute helps, ..."
  std::string TooLarge(const ExactChoice& c) const {
    std::string why =
        absl::StrCat("needs ", Gb(c.peak_bytes), " of ", Gb(budget()), ": states are ",
                     Gb(c.states_bytes), ", activations and buffers ", Gb(c.transient_bytes));
    std::vector<std::string> helps, does_not;
    const auto judge = [&](const ExactChoice& other, const std::string& what) {
      const std::string text = absl::StrCat(what, " (", Gb(other.peak_bytes), ")");
      (other.fits ? helps : does_not).push_back(text);
    };
    if (c.recompute != "all") {
      const ExactChoice& all = Find(c.zero_stage, "all");
      if (all.planned) judge(all, c.recompute == "none" ? "recompute" : "recomputing all");
    }
    if (c.zero_stage < 3 && in_.options.world_size > 1) {
      const ExactChoice& sharded = Find(3, c.recompute);
      if (sharded.planned) judge(sharded, "ZeRO-3");
    }
    if (!helps.empty()) absl::StrAppend(&why, ": ", absl::StrJoin(helps, " or "), " helps");
    if (!does_not.empty()) {
      absl::StrAppend(&why, helps.empty() ? ": " : ", ", absl::StrJoin(does_not, " and "),
                      does_not.size() > 1 ? " do not" : " does not");
    }
    return why;
  }

  std::string Slower(const ExactChoice& c, const ExactChoice& best) const {
    const double more = c.step_seconds / best.step_seconds - 1;
    const int64_t saved = best.peak_bytes - c.peak_bytes;
    const std::string memory =
        saved > 0 ? absl::StrCat("it leaves ", Gb(saved), " more free, which nothing needs")
                  : absl::StrCat("it takes ", Gb(-saved), " more");
    if (more <= kAsFast) {
      return absl::StrCat("as fast as ", NameOf(best), ", which comes first; ", memory);
    }
    const double compute = c.recompute_seconds - best.recompute_seconds;
    const double exposed = c.exposed_comm_seconds - best.exposed_comm_seconds;
    std::string cause;
    if (compute > 0 && compute >= exposed) {
      cause =
          absl::StrCat("runs ", c.recomputed, " stages' forward again (", Seconds(compute), ")");
    } else if (exposed > 0) {
      cause = absl::StrCat("leaves ", Seconds(exposed), " more of communication exposed");
    } else if (c.zero_stage < best.zero_stage) {
      cause = "updates more of the parameters on every rank";
    } else {
      cause = "communicates more, with less to hide it behind";
    }
    return absl::StrFormat("%.1f %% slower than %s: it %s; %s", more * 100, NameOf(best), cause,
                           memory);
  }

  // Nothing fits: by how much, and which micro-batch would.
  absl::Status Help() {
    const ExactChoice* least = nullptr;
    for (const ExactChoice& c : out_.choices) {
      if (c.planned && (least == nullptr || c.peak_bytes < least->peak_bytes)) least = &c;
    }
    out_.help =
        absl::StrCat("nothing fits ", Gb(budget()), ": the least is ", NameOf(*least), " with ",
                     Gb(least->peak_bytes), ", ", Gb(least->peak_bytes - budget()), " too much");
    if (least->states_bytes > budget()) {
      absl::StrAppend(&out_.help, "; its states alone are ", Gb(least->states_bytes),
                      ": more devices or offload, no batch size helps");
      return absl::OkStatus();
    }
    if (!in_.probe) return absl::OkStatus();
    for (int64_t m = in_.micro_batch / 2; m >= 1; m /= 2) {
      ASSIGN_OR_RETURN(const ModelSpec spec, in_.probe(m));
      ExactChoice c = *least;
      RecomputeOptions recompute;
      recompute.all = least->recompute == "all";
      recompute.every = least->recompute == "every 2nd" ? 2 : 0;
      RETURN_IF_ERROR(Measure(spec, OptionsOf(least->zero_stage, recompute), &c));
      if (!c.fits) continue;
      absl::StrAppend(
          &out_.help, "; with train.micro_batch=", m, " it fits (", Gb(c.peak_bytes),
          "), and train.accumulation=", in_.options.accumulation * ((in_.micro_batch + m - 1) / m),
          in_.micro_batch % m == 0 ? " keeps the batch" : " comes near the batch");
      return absl::OkStatus();
    }
    absl::StrAppend(&out_.help, "; not even with train.micro_batch=1");
    return absl::OkStatus();
  }

  // Nothing fits on the device: with states elsewhere, at the pipeline's stage and where parameters can leave, too.
  absl::Status Offload() {
    std::vector<int> stages = {in_.options.zero_stage};
    if (stages[0] < 3) stages.push_back(3);
    for (int stage : stages) {
      absl::StatusOr<MemoryChoice> choice =
          ChooseMemory(in_.spec, OptionsOf(stage, {}), {}, in_.machine, {.costs = in_.costs});
      if (choice.status().code() == absl::StatusCode::kResourceExhausted) {
        out_.offload_help = std::string(choice.status().message());
        continue;
      }
      RETURN_IF_ERROR(choice.status());
      if (out_.offload.has_value() &&
          out_.offload->choice.chosen.step_seconds <= choice->chosen.step_seconds) {
        continue;
      }
      ExactOffload& o = out_.offload.emplace();
      o.zero_stage = stage;
      if (stage != in_.options.zero_stage)
        o.settings = {absl::StrCat("parallel.zero.stage=", stage)};
      o.settings.insert(o.settings.end(), choice->settings.begin(), choice->settings.end());
      o.choice = *std::move(choice);
    }
    return absl::OkStatus();
  }

  const ExactInput& in_;
  ExactAdvice out_;
};

}  // namespace

absl::StatusOr<ExactAdvice> AdviseExactly(const ExactInput& input) { return Advisor(input).Run(); }

}  // namespace millrace
