#include "tools/advise/fitting.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "graph/sim/simulate.h"
#include "pipelines/runner/compiled.h"

namespace millrace {
namespace {

using Settings = std::vector<std::string>;

constexpr int kDevice = static_cast<int>(Tier::kDevice);

Settings operator+(Settings a, const Settings& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class Search {
 public:
  Search(const LoadedPipeline& loaded, const Settings& sets,
         const std::vector<std::string>& machine_folders)
      : loaded_(loaded), p_(loaded.proto), sets_(sets), machine_folders_(machine_folders) {}

  std::vector<Fitting> Step() {
    TryFirst(Stages());
    TryFirst({Recompute()});
    TryFirst(Offloads());
    TryFirst(MicroBatches({}));
    if (fits_.empty() && p_.parallel().data() > 1 && p_.parallel().zero().stage() < 3) {
      std::vector<Settings> both;
      for (const Settings& stage : Stages()) both.push_back(stage + Recompute());
      TryFirst(both);
    }
    const Settings sharded =
        p_.parallel().data() > 1 && p_.parallel().zero().stage() < 3 ? Stages().back() : Settings();
    if (fits_.empty()) TryFirst(MicroBatches(sharded + Recompute()));
    if (fits_.empty()) TryFirst(Chosen());
    if (fits_.empty()) Least();
    return Sorted();
  }

  std::vector<Fitting> Evaluation() {
    const absl::StatusOr<Fitting> smaller = Try({}, /*check_budget=*/true);
    if (smaller.ok()) {
      fits_.push_back(*smaller);
    } else {
      TryFirst(Stages());
    }
    return Sorted();
  }

 private:
  std::vector<Settings> Stages() const {
    std::vector<Settings> all;
    for (int s = p_.parallel().zero().stage() + 1; s <= 3 && p_.parallel().data() > 1; ++s) {
      all.push_back({absl::StrCat("parallel.zero.stage=", s)});
    }
    return all;
  }

  // What the file says of recompute stands against it and is taken back.
  Settings WithoutRecompute() const {
    const millrace::Recompute& r = p_.memory().recompute();
    Settings s;
    if (r.all()) s.push_back("memory.recompute.all=false");
    if (r.every() > 0) s.push_back("memory.recompute.every=0");
    if (r.stage_size() > 0) s.push_back("memory.recompute.stage=[]");
    return s;
  }
  Settings Recompute() const {
    if (p_.memory().recompute().auto_() || p_.memory().offload().auto_()) return {};
    return WithoutRecompute() + Settings{"memory.recompute.auto=true"};
  }

  // More of the states off the device than now, in the order of what it costs; parameters need stage 3.
  std::vector<Settings> Offloads() const {
    const Offload& o = p_.memory().offload();
    std::vector<Settings> all;
    for (const bool shard : {false, true}) {
      const bool sharded = p_.parallel().zero().stage() == 3;
      if (shard && sharded) continue;
      for (const int tier : {1, 2}) {
        for (const bool parameters : {false, true}) {
          if (o.optimizer().tier() > tier || (shard && !parameters)) continue;
          if (o.optimizer().tier() == tier && (!parameters || o.parameters().tier() == tier))
            continue;
          if (parameters && !shard && !sharded) continue;
          const char* name = tier == 1 ? "HOST" : "STORAGE";
          Settings s;
          if (o.auto_()) s.push_back("memory.offload.auto=false");
          if (shard) s.push_back("parallel.zero.stage=3");
          s.push_back(absl::StrCat("memory.offload.optimizer.tier=", name));
          if (o.optimizer().ratio() < 1) s.push_back("memory.offload.optimizer.ratio=1");
          if (parameters) s.push_back(absl::StrCat("memory.offload.parameters.tier=", name));
          all.push_back(s);
        }
      }
    }
    return all;
  }

  // All left to the planner: at the stage as it is, at stage 3.
  std::vector<Settings> Chosen() const {
    const Offload& o = p_.memory().offload();
    Settings s = WithoutRecompute();
    if (p_.memory().recompute().auto_()) s.push_back("memory.recompute.auto=false");
    if (p_.memory().recompute().offload_inputs()) {
      s.push_back("memory.recompute.offload_inputs=false");
    }
    if (o.optimizer().tier() != OptimizerOffload::NONE) {
      s.push_back("memory.offload.optimizer.tier=NONE");
    }
    if (o.parameters().tier() != ParameterOffload::NONE) {
      s.push_back("memory.offload.parameters.tier=NONE");
    }
    std::vector<Settings> all;
    if (!o.auto_() || !s.empty()) all.push_back(s + Settings{"memory.offload.auto=true"});
    if (p_.parallel().zero().stage() < 3) {
      all.push_back(s + Settings{"memory.offload.auto=true", "parallel.zero.stage=3"});
    }
    return all;
  }

  // The same samples in more micro-batches, the largest first.
  std::vector<Settings> MicroBatches(const Settings& beside) const {
    std::vector<Settings> all;
    const int64_t now = p_.train().micro_batch();
    for (int64_t m = now / 2; m >= 1; --m) {
      if (now % m != 0) continue;
      all.push_back(beside + Settings{absl::StrCat("train.micro_batch=", m),
                                      absl::StrCat("train.accumulation=",
                                                   p_.train().accumulation() * (now / m))});
    }
    return all;
  }

  int64_t EvalBatch() const {
    return p_.train().eval_batch() > 0 ? p_.train().eval_batch() : p_.train().micro_batch();
  }

  // The pipeline with these settings as well; not OK where it does not fit or its settings contradict each other.
  // Evaluation need not be what stands in the way: its batch is free, so it is halved until it fits.
  absl::StatusOr<Fitting> Try(const Settings& settings, bool check_budget) const {
    absl::Status refused;
    for (int64_t batch = EvalBatch(); batch >= 1; batch /= 2) {
      const Settings all = batch == EvalBatch()
                               ? settings
                               : settings + Settings{absl::StrCat("train.eval_batch=", batch)};
      Findings findings;
      absl::StatusOr<LoadedPipeline> loaded = LoadPipeline(loaded_.file, sets_ + all, findings);
      if (!loaded.ok()) return loaded.status();
      const absl::StatusOr<CompiledPipeline> c =
          Compile(*std::move(loaded), machine_folders_, findings, {.check_budget = check_budget});
      if (c.ok()) return Measured(*c, all);
      refused = c.status();
      if (findings.list().back().check != kEvalBudgetCheck) break;
    }
    return refused;
  }

  static absl::StatusOr<Fitting> Measured(const CompiledPipeline& c, const Settings& settings) {
    const absl::StatusOr<SimResult> sim = Simulate(c.plan, c.machine, {.details = false});
    if (!sim.ok()) return sim.status();
    Fitting f{.settings = settings, .step_seconds = sim->step_seconds};
    f.peak_bytes = c.plan.rank_plans[0].arena_bytes[kDevice];
    if (c.eval_plan.has_value()) {
      f.peak_bytes = std::max(f.peak_bytes, c.eval_plan->rank_plans[0].arena_bytes[kDevice]);
    }
    f.excess_bytes = std::max<int64_t>(0, f.peak_bytes - c.machine.device().memory_bytes());
    return f;
  }

  // Of settings in the order of what they cost, the first that fit.
  void TryFirst(const std::vector<Settings>& all) {
    for (const Settings& settings : all) {
      if (settings.empty()) continue;
      const absl::StatusOr<Fitting> f = Try(settings, /*check_budget=*/true);
      if (!f.ok()) continue;
      fits_.push_back(*f);
      return;
    }
  }

  // All that saves memory at once.
  void Least() {
    Settings settings = WithoutRecompute();
    if (p_.parallel().zero().stage() < 3) settings.push_back("parallel.zero.stage=3");
    if (p_.memory().offload().auto_()) settings.push_back("memory.offload.auto=false");
    settings.push_back("memory.offload.optimizer.tier=STORAGE");
    settings.push_back("memory.offload.parameters.tier=STORAGE");
    settings.push_back("parallel.zero.reduce_bucket_bytes=65536");
    if (p_.memory().recompute().auto_()) settings.push_back("memory.recompute.auto=false");
    settings.push_back("memory.recompute.all=true");
    if (EvalBatch() > 1) settings.push_back("train.eval_batch=1");
    const std::vector<Settings> smaller = MicroBatches(settings);
    const absl::StatusOr<Fitting> f =
        Try(smaller.empty() ? settings : smaller.back(), /*check_budget=*/false);
    if (f.ok()) fits_.push_back(*f);
  }

  std::vector<Fitting> Sorted() {
    std::stable_sort(fits_.begin(), fits_.end(), [](const Fitting& a, const Fitting& b) {
      return a.step_seconds < b.step_seconds;
    });
    return std::move(fits_);
  }

  const LoadedPipeline& loaded_;
  const Pipeline& p_;
  const Settings& sets_;
  const std::vector<std::string>& machine_folders_;
  std::vector<Fitting> fits_;
};

std::string Bytes(int64_t bytes) {
  const auto n = static_cast<double>(bytes);
  return n >= 1e9 ? absl::StrFormat("%.2f GB", n / 1e9) : absl::StrFormat("%.2f MB", n / 1e6);
}

}  // namespace

std::vector<Fitting> FindFitting(const LoadedPipeline& loaded, const std::vector<std::string>& sets,
                                 const std::vector<std::string>& machine_folders,
                                 Budgeted too_large) {
  if (!loaded.proto.has_model() || loaded.graph.has_value()) return {};
  Search search(loaded, sets, machine_folders);
  return too_large == Budgeted::kStep ? search.Step() : search.Evaluation();
}

std::string ToText(const std::vector<Fitting>& fits) {
  if (fits.empty()) return "";
  const auto line = [](const Fitting& f, const std::string& more) {
    return absl::StrCat("--set ", absl::StrJoin(f.settings, " --set "), "  (", Bytes(f.peak_bytes),
                        absl::StrFormat("%s, step %.4g s)", more, f.step_seconds));
  };
  if (fits[0].excess_bytes > 0) {
    return absl::StrCat("no ZeRO stage, recompute, offload and micro-batch fits; the least is\n  ",
                        line(fits[0], absl::StrCat(", ", Bytes(fits[0].excess_bytes), " too much")),
                        "\nmore ranks hold smaller shards: `millrace advise --devices N`");
  }
  std::string text = "these fit, planned with their predicted steps:";
  for (const Fitting& f : fits) absl::StrAppend(&text, "\n  ", line(f, ""));
  return text;
}

}  // namespace millrace
