#include "pipelines/runner/memory_choice.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "graph/base/status.h"
#include "graph/lower/lower.h"
#include "graph/lower/recompute.h"
#include "graph/sim/simulate.h"
#include "pipelines/runner/recompute_choice.h"

namespace millrace {
namespace {

constexpr int kDevice = static_cast<int>(Tier::kDevice);
constexpr int kHost = static_cast<int>(Tier::kHost);
constexpr int kPinned = static_cast<int>(Tier::kPinned);
constexpr double kAsFast =
    0.005;  // steps that differ by less count as equal: the earlier goes first
constexpr int64_t kSmallestBucket = 1 << 16;  // below, a collective is all latency

std::string Gb(int64_t bytes) {
  const auto n = static_cast<double>(bytes);
  return bytes >= 1000000000 ? absl::StrFormat("%.3f GB", n / 1e9)
                             : absl::StrFormat("%.2f MB", n / 1e6);
}

// Pageable and pinned memory together; 0: not both are stated.
int64_t HostBudget(const Machine& machine) {
  if (!SeparateMemoryOf(machine)) return machine.host_memory_bytes();
  if (machine.host_memory_bytes() == 0 || machine.pinned_memory_bytes() == 0) return 0;
  return machine.host_memory_bytes() + machine.pinned_memory_bytes();
}

const char* On(Tier tier) { return tier == Tier::kStorage ? "on storage" : "on the host"; }

class Chooser {
 public:
  Chooser(const ModelSpec& spec, LowerOptions options, const MemoryOpen& open,
          const Machine& machine, const PlanOptions& plan_options)
      : spec_(spec),
        options_(std::move(options)),
        open_(open),
        machine_(machine),
        plan_options_(plan_options) {
    plan_options_.world_size = options_.world_size;
    plan_options_.check_budget = false;
    choice_.device_budget = machine.device().memory_bytes();
    choice_.host_budget = HostBudget(machine);
  }

  absl::StatusOr<MemoryChoice> Run() {
    ASSIGN_OR_RETURN(choice_.plain, Measure(options_));
    choice_.chosen = choice_.plain;
    choice_.options = options_;
    if (choice_.plain.fits) return choice_;
    RETURN_IF_ERROR(FindFitting());
    if (fitting_.empty() && open_.recompute) {
      options_.recompute.offload_inputs = true;  // at the price of more copies
      RETURN_IF_ERROR(FindFitting());
    }
    if (fitting_.empty()) return TooMuch();
    std::stable_sort(fitting_.begin(), fitting_.end(),
                     [](const Fit& a, const Fit& b) { return a.order < b.order; });
    const Fit* best = &fitting_[0];
    for (const Fit& f : fitting_) {
      if (f.tried.step_seconds <= Shortest() * (1 + kAsFast)) {
        best = &f;
        break;
      }
    }
    choice_.chosen = best->tried;
    choice_.options = best->options;
    choice_.settings = Settings(best->options);
    return choice_;
  }

 private:
  // Something that does not fit without recompute, but might with it.
  struct Pending {
    LowerOptions options;
    int order = 0, move = 0;  // `move`: index of what leaves the device
    double plain_seconds = 0;
  };
  struct Fit {
    LowerOptions options;
    MemoryChoice::Tried tried;
    int order = 0;
  };

  double Shortest() const {
    double shortest = std::numeric_limits<double>::infinity();
    for (const Fit& f : fitting_) shortest = std::min(shortest, f.tried.step_seconds);
    return shortest;
  }

  // What leaves the device, from little to much.
  std::vector<OffloadOptions> Moves() const {
    std::vector<OffloadOptions> moves;
    const auto add = [&](Tier optimizer, double ratio, Tier parameters) {
      OffloadOptions o = options_.offload;
      o.optimizer = optimizer;
      o.ratio = ratio;
      o.parameters = parameters;
      moves.push_back(o);
    };
    add(Tier::kDevice, 1, Tier::kDevice);
    for (double ratio : {0.25, 0.5, 0.75, 1.0}) add(Tier::kHost, ratio, Tier::kDevice);
    if (options_.zero_stage == 3) add(Tier::kHost, 1, Tier::kHost);
    add(Tier::kStorage, 1, Tier::kDevice);
    if (options_.zero_stage == 3) add(Tier::kStorage, 1, Tier::kStorage);
    return moves;
  }

  // Sizes of what is in flight, from large to small.
  std::vector<LowerOptions> Shapes(const OffloadOptions& move) const {
    LowerOptions o = options_;
    o.offload = move;
    std::vector<LowerOptions> shapes = {o};
    for (int64_t part : {4, 16, 64}) {
      if (!open_.buckets || options_.reduce_bucket_bytes / part < kSmallestBucket) break;
      o.reduce_bucket_bytes = options_.reduce_bucket_bytes / part;
      shapes.push_back(o);
    }
    const bool gathers =
        o.zero_stage == 3 && (o.world_size > 1 || move.parameters != Tier::kDevice);
    if (gathers && open_.prefetch && o.overlap && o.prefetch_depth > 0) {
      o.prefetch_depth = 0;
      shapes.push_back(o);
    }
    return shapes;
  }

  absl::Status FindFitting() {
    const std::vector<OffloadOptions> moves = Moves();
    std::vector<Pending> pending;
    int order = 0;
    for (size_t m = 0; m < moves.size(); ++m) {
      const std::vector<LowerOptions> shapes = Shapes(moves[m]);
      ASSIGN_OR_RETURN(const bool hopeless, StatesAloneAreTooMuch(shapes.back()));
      if (hopeless) continue;
      double before = std::numeric_limits<double>::infinity();
      for (const LowerOptions& shape : shapes) {
        ++order;
        ASSIGN_OR_RETURN(const MemoryChoice::Tried tried, Measure(shape));
        if (tried.fits) {
          fitting_.push_back({shape, tried, order});
          if (tried.step_seconds >= before) break;  // smaller ones are neither needed nor faster
          before = tried.step_seconds;
        } else {
          pending.push_back({shape, order, static_cast<int>(m), tried.step_seconds});
        }
      }
    }
    if (!open_.recompute) return absl::OkStatus();
    return FindRecompute(std::move(pending));
  }

  // The fewest stages for each that is fast enough without: recomputing makes no step shorter.
  absl::Status FindRecompute(std::vector<Pending> pending) {
    std::vector<int> possible(Moves().size(), -1);  // -1: not known
    for (const Pending& p : pending) {
      LowerOptions all = p.options;  // the last of a move has its smallest buckets
      all.recompute.all = true;
      if (&p != &pending.back() && (&p)[1].move == p.move) continue;
      ASSIGN_OR_RETURN(const MemoryChoice::Tried least, Measure(all));
      possible[p.move] = least.fits ? 1 : 0;
    }
    std::stable_sort(pending.begin(), pending.end(), [](const Pending& a, const Pending& b) {
      return a.plain_seconds < b.plain_seconds;
    });
    for (Pending& p : pending) {
      if (possible[p.move] != 1) continue;
      if (p.plain_seconds >= Shortest()) break;
      const absl::StatusOr<RecomputeChoice> recompute =
          ChooseRecompute(spec_, p.options, machine_, plan_options_);
      if (recompute.status().code() == absl::StatusCode::kResourceExhausted) continue;
      RETURN_IF_ERROR(recompute.status());
      p.options.recompute.stages = recompute->stages;
      ASSIGN_OR_RETURN(const MemoryChoice::Tried tried, Measure(p.options));
      if (tried.fits) fitting_.push_back({p.options, tried, p.order});
    }
    return absl::OkStatus();
  }

  // What stays from step to step needs no plan to be known.
  absl::StatusOr<bool> StatesAloneAreTooMuch(const LowerOptions& options) const {
    ASSIGN_OR_RETURN(const Graph graph, Lower(spec_, options));
    int64_t device = 0, host = 0;
    for (const Buffer& b : graph.buffers()) {
      if (!b.persistent) continue;
      if (b.tier == Tier::kDevice) device += b.bytes;
      if (b.tier == Tier::kHost || b.tier == Tier::kPinned) host += b.bytes;
    }
    return !Within(device, host);
  }

  int64_t DeviceExcess(int64_t bytes) const {
    return std::max<int64_t>(0, bytes - choice_.device_budget);
  }
  int64_t HostExcess(int64_t bytes) const {
    return choice_.host_budget == 0 ? 0 : std::max<int64_t>(0, bytes - choice_.host_budget);
  }
  bool Within(int64_t device, int64_t host) const {
    return DeviceExcess(device) == 0 && HostExcess(host) == 0;
  }

  void Least(const MemoryChoice::Tried& t) {
    const auto excess = [this](const MemoryChoice::Tried& x) {
      return DeviceExcess(x.device_bytes) + HostExcess(x.host_bytes);
    };
    if (!least_ || excess(t) < excess(*least_)) least_ = t;
  }

  absl::StatusOr<MemoryChoice::Tried> Measure(const LowerOptions& options) {
    ASSIGN_OR_RETURN(Graph graph, Lower(spec_, options));
    ASSIGN_OR_RETURN(const Plan plan, MakePlan(std::move(graph), machine_, plan_options_));
    ASSIGN_OR_RETURN(const SimResult sim, Simulate(plan, machine_, {.details = false}));
    MemoryChoice::Tried tried;
    tried.what = Describe(options);
    tried.device_bytes = plan.rank_plans[0].arena_bytes[kDevice];
    const auto& arenas = plan.rank_plans[0].arena_bytes;
    tried.host_bytes = arenas[kHost] + arenas[kPinned];
    tried.step_seconds = sim.step_seconds;
    tried.fits = Within(tried.device_bytes, tried.host_bytes);
    for (const int t : {kHost, kPinned}) {
      tried.fits = tried.fits && (plan.budget_bytes[t] == 0 || arenas[t] <= plan.budget_bytes[t]);
    }
    choice_.tried.push_back(tried);
    Least(tried);
    return tried;
  }

  std::string Describe(const LowerOptions& o) const {
    std::vector<std::string> parts;
    if (o.offload.any()) {
      parts.push_back(absl::StrCat(
          o.offload.ratio < 1 ? absl::StrFormat("%.0f %% of the ", o.offload.ratio * 100) : "",
          "optimizer states", o.offload.parameters == Tier::kDevice ? " " : " and parameters ",
          On(o.offload.optimizer)));
    }
    if (o.recompute.any()) {
      const std::vector<bool> stages = RecomputedStages(spec_, o.recompute);
      parts.push_back(absl::StrCat(std::count(stages.begin(), stages.end(), true), " of ",
                                   stages.size(), " stages recomputed",
                                   o.recompute.offload_inputs ? ", their inputs on the host" : ""));
    }
    if (o.reduce_bucket_bytes != options_.reduce_bucket_bytes) {
      parts.push_back(absl::StrCat("buckets of ", Gb(o.reduce_bucket_bytes)));
    }
    if (o.prefetch_depth != options_.prefetch_depth) parts.push_back("nothing gathered ahead");
    return parts.empty() ? "as it is" : absl::StrJoin(parts, ", ");
  }

  std::vector<std::string> Settings(const LowerOptions& o) const {
    std::vector<std::string> s;
    const auto tier = [](Tier t) { return t == Tier::kStorage ? "STORAGE" : "HOST"; };
    if (o.offload.any()) {
      s.push_back(absl::StrCat("memory.offload.optimizer.tier=", tier(o.offload.optimizer)));
      if (o.offload.ratio < 1) {
        s.push_back(absl::StrCat("memory.offload.optimizer.ratio=", o.offload.ratio));
      }
    }
    if (o.offload.parameters != Tier::kDevice) {
      s.push_back(absl::StrCat("memory.offload.parameters.tier=", tier(o.offload.parameters)));
    }
    if (open_.recompute && !o.recompute.stages.empty()) {
      const std::vector<bool> all = RecomputedStages(spec_, {.all = true});
      const auto possible = static_cast<size_t>(std::count(all.begin(), all.end(), true));
      s.push_back(o.recompute.stages.size() == possible
                      ? "memory.recompute.all=true"
                      : absl::StrCat("memory.recompute.stage=[",
                                     absl::StrJoin(o.recompute.stages, ","), "]"));
      if (o.recompute.offload_inputs) s.push_back("memory.recompute.offload_inputs=true");
    }
    if (o.reduce_bucket_bytes != options_.reduce_bucket_bytes) {
      s.push_back(absl::StrCat("parallel.zero.reduce_bucket_bytes=", o.reduce_bucket_bytes));
    }
    if (o.prefetch_depth != options_.prefetch_depth) {
      s.push_back(absl::StrCat("parallel.zero.prefetch_depth=", o.prefetch_depth));
    }
    return s;
  }

  // Nothing fits: the least, what is missing, and what the pipeline does not let the planner do.
  absl::Status TooMuch() {
    const MemoryChoice::Tried least = *least_;
    std::string text = absl::StrFormat(
        "memory.offload.auto: of %d ways none fits the budget of %d bytes of device memory",
        choice_.tried.size(), choice_.device_budget);
    if (choice_.host_budget > 0) {
      absl::StrAppend(&text, " and ", choice_.host_budget, " of host memory");
    }
    absl::StrAppend(&text, "; the least takes ", least.device_bytes, " bytes of device memory, ",
                    DeviceExcess(least.device_bytes), " too much,");
    if (choice_.host_budget > 0) {
      absl::StrAppend(&text, " and ", least.host_bytes, " of host memory, ",
                      HostExcess(least.host_bytes), " too much,");
    }
    absl::StrAppend(&text, " by: ", least.what, " (", choice_.plain.device_bytes,
                    " bytes as it is)");
    std::vector<std::string> help;
    if (options_.zero_stage < 3) {
      LowerOptions o = options_;
      o.zero_stage = 3;
      if (open_.recompute) o.recompute.all = true;
      o.offload.optimizer = o.offload.parameters = Tier::kStorage;
      o = ShapesAt(o);
      ASSIGN_OR_RETURN(const MemoryChoice::Tried sharded, Measure(o));
      help.push_back(absl::StrCat("parallel.zero.stage: 3 would allow the parameters to leave the ",
                                  "device, down to ", sharded.device_bytes, " bytes",
                                  sharded.fits ? "" : ", still too much"));
    }
    if (!open_.recompute) help.push_back("memory.recompute left out, which frees the choice");
    if (!open_.buckets) help.push_back("parallel.zero.reduce_bucket_bytes left out or smaller");
    help.push_back("a smaller train.micro_batch with more train.accumulation");
    if (options_.zero_stage > 0) help.push_back("more ranks");
    return absl::ResourceExhaustedError(
        absl::StrCat(text, "\nwhat would help: ", absl::StrJoin(help, "; ")));
  }

  // With the least in flight.
  LowerOptions ShapesAt(const LowerOptions& o) const {
    Chooser at(spec_, o, open_, machine_, plan_options_);
    return at.Shapes(o.offload).back();
  }

  const ModelSpec& spec_;
  LowerOptions options_;
  const MemoryOpen open_;
  const Machine& machine_;
  PlanOptions plan_options_;
  std::vector<Fit> fitting_;
  std::optional<MemoryChoice::Tried> least_;  // beyond the budgets
  MemoryChoice choice_;
};

std::string Numbers(const MemoryChoice::Tried& t) {
  return absl::StrCat(Gb(t.device_bytes), t.host_bytes > 0 ? " + host " : "",
                      t.host_bytes > 0 ? Gb(t.host_bytes) : "",
                      absl::StrFormat(", step %.4g s", t.step_seconds));
}

}  // namespace

absl::StatusOr<MemoryChoice> ChooseMemory(const ModelSpec& spec, LowerOptions options,
                                          const MemoryOpen& open, const Machine& machine,
                                          PlanOptions plan_options) {
  return Chooser(spec, std::move(options), open, machine, plan_options).Run();
}

std::string ToText(const MemoryChoice& c) {
  std::string budget = Gb(c.device_budget);
  if (c.host_budget > 0) absl::StrAppend(&budget, " + host ", Gb(c.host_budget));
  if (c.settings.empty()) {
    return absl::StrCat("offload auto: nothing; the plan (", Numbers(c.plain),
                        ") fits the budget of ", budget, " as it is\n");
  }
  std::string text = absl::StrCat(
      "offload auto: ", c.chosen.what, " (", Numbers(c.chosen), "), the fastest to 0.5 % of ",
      c.tried.size(), " tried that fits ", budget, "; as it is: ", Numbers(c.plain), "\n");
  for (const std::string& s : c.settings) absl::StrAppend(&text, "  ", s, "\n");
  std::vector<MemoryChoice::Tried> others;
  for (const MemoryChoice::Tried& t : c.tried) {
    const bool same = t.device_bytes == c.chosen.device_bytes &&
                      t.host_bytes == c.chosen.host_bytes &&
                      t.step_seconds == c.chosen.step_seconds;  // another name for the same plan
    if (t.fits && !same) others.push_back(t);
  }
  std::stable_sort(others.begin(), others.end(),
                   [](const auto& a, const auto& b) { return a.step_seconds < b.step_seconds; });
  if (others.size() > 3) others.resize(3);
  for (const MemoryChoice::Tried& t : others) {
    absl::StrAppend(&text, "  fits, too: ", t.what, " (", Numbers(t), ")\n");
  }
  if (c.options.zero_stage < 3 && c.options.offload.any()) {
    absl::StrAppend(&text, "  parameters stay on the device at ZeRO stage ", c.options.zero_stage,
                    "; parallel.zero.stage: 3 would allow them to leave\n");
  }
  return text;
}

}  // namespace millrace
