#include "pipelines/runner/trainer.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "data/file.h"
#include "graph/base/loss_scale.h"
#include "graph/base/median.h"
#include "graph/base/status.h"
#include "graph/ir/loss_scale_attrs.h"
#include "graph/trace/chrome.h"
#include "graph/trace/recorder.h"
#include "graph/trace/ticks.h"
#include "models/allocator.h"
#include "pipelines/runner/batches.h"
#include "pipelines/runner/checkpoint.h"
#include "pipelines/runner/evaluator.h"
#include "pipelines/runner/interrupt.h"
#include "pipelines/runner/lr_schedule.h"
#include "pipelines/runner/model_state.h"
#include "pipelines/runner/ranks.h"
#include "pipelines/runner/storage_files.h"

namespace millrace {
namespace {

using Seconds = std::chrono::duration<double>;
using SteadyClock = std::chrono::steady_clock;

// Since the process was started (Linux: field 22 of /proc/self/stat, in clock ticks since boot).
double SecondsSinceProcessStart() {
  std::ifstream file("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t after_name = text.rfind(')');
  if (after_name == std::string::npos) return 0;
  std::istringstream fields(text.substr(after_name + 1));
  std::string skip;
  for (int i = 3; i < 22; ++i) fields >> skip;
  double ticks = 0;
  fields >> ticks;
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9 -
         ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

// The most memory that the process ever had resident (Linux: VmHWM), file pages included.
int64_t PeakRssBytes() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    int64_t kib = 0;
    if (std::sscanf(line.c_str(), "VmHWM: %ld kB", &kib) == 1) return kib * 1024;
  }
  return 0;
}

LrScheduleOptions ScheduleOf(const Pipeline& p, int64_t total_steps) {
  LrScheduleOptions o;
  o.lr = p.optimizer().lr();
  const LrSchedule_Kind kind = p.lr_schedule().kind();
  switch (kind) {
    case LrSchedule_Kind_WARMUP:
      o.kind = LrScheduleOptions::Kind::kWarmup;
      break;
    case LrSchedule_Kind_WARMUP_DECAY:
      o.kind = LrScheduleOptions::Kind::kWarmupDecay;
      break;
    case LrSchedule_Kind_WARMUP_COSINE:
      o.kind = LrScheduleOptions::Kind::kWarmupCosine;
      break;
    default:
      break;
  }
  o.warmup_min_lr = p.lr_schedule().warmup_min_lr();
  o.warmup_min_ratio = p.lr_schedule().warmup_min_ratio();
  o.cos_min_ratio = p.lr_schedule().cos_min_ratio();
  o.warmup_steps = p.lr_schedule().warmup_steps();
  o.total_steps = p.lr_schedule().total_steps() > 0 ? p.lr_schedule().total_steps() : total_steps;
  o.linear_warmup = p.lr_schedule().warmup_type() == LrSchedule::LINEAR;
  return o;
}

OptimizerSettings SettingsOf(const Optimizer& o) {
  OptimizerSettings s;
  s.beta1 = o.beta1();
  s.beta2 = o.beta2();
  s.eps = o.eps();
  s.weight_decay = o.weight_decay();
  s.momentum = o.momentum();
  s.nesterov = o.nesterov();
  return s;
}

// Of one rank's step, as MFU counts them: what is computed a second time takes time only.
double ModelFlops(const Graph& graph) {
  double flops = 0;
  for (const Node& node : graph.nodes()) {
    const bool of_model = IntAttr(node, "stage", -1) >= 0 && node.op != "recompute";
    if (of_model && node.async != AsyncRole::kDone) flops += static_cast<double>(node.flops);
  }
  return flops;
}

class InProcessTrainer final : public Trainer {
 public:
  InProcessTrainer(const CompiledPipeline& compiled, const RunOptions& options)
      : c_(compiled), p_(compiled.loaded.proto), options_(options) {}

  absl::Status Prepare();
  absl::StatusOr<RunResult> Run() override;
  const StorageRates* probed() const override {
    return storage_.probed ? &*storage_.probed : nullptr;
  }

 private:
  absl::Status CheckStorageFirst();
  const std::string& storage_folder() const {
    if (!options_.storage_folder.empty()) return options_.storage_folder;
    const std::string& named = p_.memory().offload().storage().folder();
    return named.empty() ? options_.run_folder : named;
  }
  absl::Status OpenLoader(const OpenedData& data);
  absl::Status AllocateRanks();
  absl::StatusOr<StepMetrics> Step(int64_t step);
  // What a step leaves for the host to see.
  absl::Status ReadScalars(StepMetrics* m);
  absl::Status ReadLossScales();
  // With a loss scale, as ReadScalars found it. After a step: did it overflow, where first, and do the ranks agree?
  const LossScaleState& LossScaleOf(int rank) const { return loss_scales_[rank]; }
  absl::Status ReadLossScale(const LossScaleState& before, StepMetrics* m) const;
  absl::Status CheckLossScale(const StepMetrics& m) const;
  absl::Status Evaluate(int64_t step, RunResult* result);
  absl::Status Save(int64_t step, RunResult* result);
  absl::Status WriteTrace(RunResult* result);
  absl::Status Conclude(int64_t step, RunResult* result);

  const CompiledPipeline& c_;
  const Pipeline& p_;
  const RunOptions options_;
  std::unique_ptr<TrainBatches> batches_;
  std::unique_ptr<EvalBatches> eval_batches_;
  TraceRecorder recorder_;
  RankFiles storage_;  // after the arenas, which the ranks share, before whoever uses them
  std::unique_ptr<Ranks> train_, evaluate_;
  std::unique_ptr<ModelState> state_;
  std::unique_ptr<MetricsFile> metrics_;
  std::unique_ptr<LrScheduler> schedule_;
  std::vector<ValueId> loss_values_;
  ValueId norm_value_ = -1, loss_scale_value_ = -1;
  std::vector<LossScaleState> loss_scales_;  // by rank
  int64_t total_steps_ = 0, first_step_ = 0;
  LoaderState loader_start_;
  LossScaleOptions loss_scale_options_;
};

absl::Status InProcessTrainer::Prepare() {
  RETURN_IF_ERROR(CheckOnDevices(c_));
  RETURN_IF_ERROR(CheckStorageFirst());
  InstallAllocators();
  ASSIGN_OR_RETURN(OpenedData data, OpenData(c_.loaded, c_.image_needs, options_.data_folders));
  RETURN_IF_ERROR(OpenLoader(data));
  RETURN_IF_ERROR(AllocateRanks());
  if (c_.has_model) {
    state_ = std::make_unique<ModelState>(
        ModelState::OfModel(c_.plan, c_.spec, train_->all_buffers(), storage_.by_rank()));
  } else {
    state_ = std::make_unique<ModelState>(
        ModelState::OfGraph(c_.plan, p_.graph(), train_->all_buffers()));
  }
  for (ValueId v = 0; v < static_cast<ValueId>(c_.plan.graph.values().size()); ++v) {
    const Value& value = c_.plan.graph.values()[v];
    if (value.name == "loss" || value.name.rfind("loss/", 0) == 0) loss_values_.push_back(v);
    if (c_.plan.graph.producer(v) >= 0 &&
        c_.plan.graph.nodes()[c_.plan.graph.producer(v)].op == "clip_coefficient") {
      norm_value_ = v;
    }
  }
  for (const Node& node : c_.plan.graph.nodes()) {
    if (node.op != "update_loss_scale") continue;
    loss_scale_value_ = node.inputs[1];
    loss_scale_options_ = LossScaleOptionsOf(node);
  }
  total_steps_ = p_.train().epochs() > 0
                     ? p_.train().epochs() * batches_->loader().batches_per_epoch()
                     : p_.train().steps();
  schedule_ = std::make_unique<LrScheduler>(ScheduleOf(p_, total_steps_));
  RETURN_IF_ERROR(state_->Initialise(static_cast<uint64_t>(p_.train().seed())));
  if (p_.checkpoint().has_init_from()) {
    RETURN_IF_ERROR(
        LoadWeights(FindFile(p_.checkpoint().init_from(), options_.data_folders), *state_));
  }
  if (options_.resume) {
    const std::string from =
        options_.resume_from.empty() ? options_.run_folder + "/checkpoints" : options_.resume_from;
    ASSIGN_OR_RETURN(const RunPosition position,
                     LoadCheckpoint(from, Optimizer::Kind_Name(p_.optimizer().kind()), *state_));
    if (position.seed != p_.train().seed() ||
        position.global_batch != batches_->loader().global_batch()) {
      return absl::InvalidArgumentError(absl::StrCat(
          from, ": has seed ", position.seed, " and global batch ", position.global_batch,
          ", the pipeline ", p_.train().seed(), " and ", batches_->loader().global_batch(),
          "; resuming would not see the same data (load only the weights with "
          "checkpoint.init_from)"));
    }
    first_step_ = position.step;
    loader_start_ = {position.epoch, position.batch};
    RETURN_IF_ERROR(batches_->loader().Seek(loader_start_));
  }
  RETURN_IF_ERROR(MakeDirectories(options_.run_folder));
  ASSIGN_OR_RETURN(metrics_,
                   MetricsFile::Open(options_.run_folder + "/metrics.jsonl", first_step_));
  return absl::OkStatus();
}

// Before anything is loaded. A folder that the pipeline names is not made: where a drive is not mounted, the states
// would go to another one.
absl::Status InProcessTrainer::CheckStorageFirst() {
  if (StorageBytes(c_.plan) == 0) return absl::OkStatus();
  if (storage_folder() == options_.run_folder) {
    RETURN_IF_ERROR(MakeDirectories(options_.run_folder));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> notes,
                   CheckStorage(c_.plan, p_.memory().offload().storage(), storage_folder()));
  for (const std::string& note : notes) {
    if (!options_.quiet) std::fprintf(stderr, "storage: %s\n", note.c_str());
  }
  return absl::OkStatus();
}

absl::Status InProcessTrainer::OpenLoader(const OpenedData& data) {
  LoaderOptions loader;
  loader.split = {p_.train().micro_batch(), static_cast<int>(p_.train().accumulation()),
                  c_.plan.world_size};
  loader.seed = static_cast<uint64_t>(p_.train().seed());
  loader.shuffle = p_.data().shuffle();
  loader.threads = p_.data().threads();
  loader.prefetch = p_.data().prefetch_batches();
  loader.on_error = data.on_error;
  loader.report_bad = SayBadSample;
  ASSIGN_OR_RETURN(std::unique_ptr<Loader> made, Loader::Create(data.train, loader));
  batches_ = std::make_unique<TrainBatches>(std::move(made));
  if (data.evaluate != nullptr && c_.has_model) {
    ASSIGN_OR_RETURN(eval_batches_, EvalBatches::Create(data, c_.eval_batch, c_.plan.world_size));
  }
  return absl::OkStatus();
}

absl::Status InProcessTrainer::AllocateRanks() {
  std::vector<const Plan*> plans = {&c_.plan};
  if (eval_batches_ != nullptr) plans.push_back(&*c_.eval_plan);
  RanksOptions o;
  o.plan = &c_.plan;
  o.reference = p_.runtime().executor() == Runtime::REFERENCE;
  o.threads_per_rank = p_.runtime().threads_per_rank();
  o.stuck_seconds = p_.runtime().stuck_seconds();
  o.recorder = &recorder_;
  o.batches = batches_.get();
  o.model = c_.has_model ? &c_.model : nullptr;
  o.spec = c_.has_model ? &c_.spec : nullptr;
  o.optimizer = SettingsOf(p_.optimizer());
  o.back_end = c_.back_end;
  o.capture = p_.runtime().cuda_graphs();
  ASSIGN_OR_RETURN(o.arenas, AllocateArenas(plans, c_.back_end.get()));
  ASSIGN_OR_RETURN(storage_, OpenRankFiles(c_.plan, o.arenas, p_.memory().offload().storage(),
                                           storage_folder()));
  // From here on an interrupt must not end the process at once: the files would stay.
  if (!storage_.files.empty()) CatchInterrupts();
  o.storage = storage_.by_rank();
  if (!o.reference) {
    ASSIGN_OR_RETURN(o.threads,
                     MakeComputeThreads(c_.plan.world_size, p_.runtime().threads_per_rank()));
    o.lanes = LaneWorkers::Create(plans, /*devices=*/o.back_end != nullptr);
  }
  ASSIGN_OR_RETURN(train_, Ranks::Create(o));
  if (eval_batches_ != nullptr) {
    o.plan = &*c_.eval_plan;
    o.recorder = nullptr;
    o.capture = false;  // a few steps now and then: not worth two graphs
    o.batches = eval_batches_.get();
    o.model = &c_.eval_model;
    o.spec = &c_.eval_spec;
    ASSIGN_OR_RETURN(evaluate_, Ranks::Create(o));
  }
  return absl::OkStatus();
}

absl::StatusOr<StepMetrics> InProcessTrainer::Step(int64_t step) {
  StepMetrics m;
  m.step = step;
  m.epoch = (step - 1) / batches_->loader().batches_per_epoch();
  const bool scaled = loss_scale_value_ >= 0;
  if (scaled && loss_scales_.empty()) RETURN_IF_ERROR(ReadLossScales());
  const LossScaleState before = scaled ? LossScaleOf(0) : LossScaleState();
  const int64_t update = step - static_cast<int64_t>(before.skipped);
  m.lr = schedule_->AfterSteps(update - 1);
  const auto begin = SteadyClock::now();
  RETURN_IF_ERROR(train_->RunStep(step, {m.lr, update}));
  m.step_seconds = Seconds(SteadyClock::now() - begin).count();
  m.samples_per_second = static_cast<double>(batches_->loader().global_batch()) / m.step_seconds;
  RETURN_IF_ERROR(ReadScalars(&m));
  if (scaled) RETURN_IF_ERROR(ReadLossScale(before, &m));
  return m;
}

absl::Status InProcessTrainer::ReadLossScales() {
  loss_scales_.resize(train_->size());
  for (int r = 0; r < train_->size(); ++r) {
    RETURN_IF_ERROR(train_->buffers(r).Read(loss_scale_value_, &loss_scales_[r]));
  }
  return absl::OkStatus();
}

absl::Status InProcessTrainer::ReadScalars(StepMetrics* m) {
  for (int r = 0; r < train_->size(); ++r) {
    for (ValueId v : loss_values_) {
      float loss = 0;
      RETURN_IF_ERROR(train_->buffers(r).Read(v, &loss));
      m->loss += loss;
    }
  }
  m->loss /= static_cast<double>(std::max<size_t>(1, train_->size() * loss_values_.size()));
  if (norm_value_ >= 0) {
    std::vector<float> norm(c_.plan.graph.values()[norm_value_].numel());
    RETURN_IF_ERROR(train_->buffers(0).Read(norm_value_, norm.data()));
    m->grad_norm = norm[1];
  }
  return loss_scale_value_ >= 0 ? ReadLossScales() : absl::OkStatus();
}

absl::Status InProcessTrainer::ReadLossScale(const LossScaleState& before, StepMetrics* m) const {
  const LossScaleState& after = LossScaleOf(0);
  for (int r = 1; r < train_->size(); ++r) {
    if (std::memcmp(&LossScaleOf(r), &after, sizeof(after)) == 0) continue;
    return absl::InternalError(absl::StrCat(
        "step ", m->step, ": rank ", r, " has loss scale ", LossScaleOf(r).scale, " after ",
        LossScaleOf(r).skipped, " skipped steps, rank 0 ", after.scale, " after ", after.skipped));
  }
  m->loss_scale = before.scale;
  m->skipped = after.skipped > before.skipped;
  Overflow first;
  for (int r = 0; r < train_->size() && m->skipped; ++r) {
    const Overflow o = train_->overflow(r);
    const auto order = [](const Overflow& x) { return std::make_pair(x.micro_batch, -x.stage); };
    if (o.parameter.empty() || (!first.parameter.empty() && order(o) >= order(first))) continue;
    first = o;
    m->overflow_rank = r;
  }
  m->overflow_parameter = first.parameter;
  return absl::OkStatus();
}

std::string OverflowText(const StepMetrics& m) {
  return m.overflow_parameter.empty() ? "a gradient's sum over the ranks is not finite"
                                      : absl::StrCat("the gradient of ", m.overflow_parameter,
                                                     " is not finite on rank ", m.overflow_rank);
}

// Whether to go on after an overflow.
absl::Status InProcessTrainer::CheckLossScale(const StepMetrics& m) const {
  const auto limit = static_cast<double>(loss_scale_options_.max_skips);
  if (!m.skipped || limit == 0 || LossScaleOf(0).skipped_at_min < limit) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "step ", m.step, ": ", OverflowText(m), ", overflow number ", loss_scale_options_.max_skips,
      " in a row at ",
      loss_scale_options_.dynamic ? "the smallest loss scale, " : "the static loss scale ",
      LossScaleOf(0).scale, "; help: a smaller ",
      loss_scale_options_.dynamic ? "optimizer.lr, or optimizer.clip_norm"
                                  : "precision.loss_scale.static, or a dynamic one",
      ", or precision.mode BF16, whose range is that of f32; precision.loss_scale.max_skips says "
      "how many are let pass"));
}

absl::Status InProcessTrainer::Evaluate(int64_t step, RunResult* result) {
  if (evaluate_ == nullptr || !options_.evaluate ||
      (result->evaluated && result->metrics.step == step))
    return absl::OkStatus();
  ASSIGN_OR_RETURN(result->metrics, EvaluateOnce(*evaluate_, *c_.eval_plan, c_.eval_model,
                                                 c_.eval_spec, eval_batches_.get()));
  result->metrics.step = step;
  result->evaluated = true;
  return metrics_->Write(result->metrics);
}

absl::Status InProcessTrainer::Save(int64_t step, RunResult* result) {
  if (!p_.checkpoint().save()) return absl::OkStatus();
  RunPosition position;
  position.step = step;
  const LoaderState next = batches_->loader().After(loader_start_, step - first_step_);
  position.epoch = next.epoch;
  position.batch = next.batch;
  position.seed = p_.train().seed();
  position.global_batch = batches_->loader().global_batch();
  position.pipeline = p_.name();
  position.optimizer = Optimizer::Kind_Name(p_.optimizer().kind());
  ASSIGN_OR_RETURN(result->checkpoint_path,
                   SaveCheckpoint(options_.run_folder + "/checkpoints", *state_, position,
                                  p_.checkpoint().keep()));
  return absl::OkStatus();
}

absl::Status InProcessTrainer::WriteTrace(RunResult* result) {
  const int keep = p_.runtime().trace_steps();
  if (keep == 0) return absl::OkStatus();
  Trace trace = recorder_.Collect(c_.plan, p_.name());
  trace.peak_flops_per_second = c_.machine.device().flops_per_second();
  if (static_cast<int>(trace.steps.size()) > keep) {
    const int64_t from = trace.steps[trace.steps.size() - keep].begin_ns;
    trace.steps.erase(trace.steps.begin(), trace.steps.end() - keep);
    trace.spans.erase(std::remove_if(trace.spans.begin(), trace.spans.end(),
                                     [from](const Span& s) { return s.begin_ns < from; }),
                      trace.spans.end());
  }
  result->trace = std::move(trace);
  result->trace_path = options_.run_folder + "/trace.json";
  RETURN_IF_ERROR(WriteFileAtomically(result->trace_path, ChromeTraceJson({&result->trace})));
  if (options_.predicted == nullptr) return absl::OkStatus();
  return WriteFileAtomically(options_.run_folder + "/predicted_trace.json",
                             ChromeTraceJson({options_.predicted}));
}

absl::Status InProcessTrainer::Conclude(int64_t step, RunResult* result) {
  result->last_step = step;
  if (loss_scale_value_ >= 0) {
    RETURN_IF_ERROR(ReadLossScales());
    result->loss_scale = LossScaleOf(0).scale;
  }
  if (const IssueCost cost = train_->issue_cost(); cost.nodes > 0) {
    TickScale scale;
    scale.Refresh();
    const double seconds =
        static_cast<double>(scale.Nanoseconds(cost.ticks) - scale.Nanoseconds(0)) * 1e-9;
    result->issue_seconds_per_node = seconds / static_cast<double>(cost.nodes);
    result->issue_seconds_per_step =
        seconds / static_cast<double>(result->steps * c_.plan.world_size);
    result->captured_runs = cost.captured_runs / c_.plan.world_size;
  }
  if (const double possible = result->step_seconds_median * c_.machine.device().flops_per_second();
      possible > 0) {
    result->mfu = ModelFlops(c_.plan.graph) / possible;
  }
  ASSIGN_OR_RETURN(result->weights_sha256, state_->WeightsSha256());
  if (options_.predicted != nullptr && !options_.predicted->steps.empty()) {
    const StepMark& step = options_.predicted->steps.front();
    result->simulated_step_seconds = static_cast<double>(step.end_ns - step.begin_ns) * 1e-9;
  }
  result->metrics_path = metrics_->path();
  result->bad_samples = batches_->loader().bad_samples().list();
  if (eval_batches_ != nullptr && eval_batches_->bad_samples() != nullptr) {
    for (BadSample& bad : eval_batches_->bad_samples()->list()) {
      result->bad_samples.push_back(std::move(bad));
    }
  }
  if (!storage_.files.empty()) result->storage = storage_.files[0]->description();
  const auto take = [&](const Plan& plan, const Ranks& ranks) {
    for (int t = 0; t < kTiers; ++t) {
      for (const RankPlan& rank : plan.rank_plans) {
        result->peak_bytes_predicted[t] =
            std::max(result->peak_bytes_predicted[t], rank.arena_bytes[t]);
      }
      for (int r = 0; r < ranks.size(); ++r) {
        const int64_t bytes = ranks.buffers(r).arenas()->bytes(static_cast<Tier>(t));
        result->peak_bytes_measured[t] = std::max(result->peak_bytes_measured[t], bytes);
      }
    }
    result->unplanned_allocations += ranks.unplanned_allocations();
  };
  take(c_.plan, *train_);
  int64_t unplanned = train_->unplanned_bytes();
  if (evaluate_ != nullptr) {
    take(*c_.eval_plan, *evaluate_);
    unplanned = std::max(unplanned, evaluate_->unplanned_bytes());
  }
  result->peak_bytes_measured[static_cast<int>(Tier::kDevice)] += unplanned;
  result->peak_rss_bytes = PeakRssBytes();
  if (result->peak_rss_bytes == 0) return absl::OkStatus();
  result->rss_outside_plan_bytes = result->peak_rss_bytes;
  for (int r = 0; r < train_->size(); ++r) {
    for (Tier tier : {Tier::kDevice, Tier::kPinned, Tier::kHost}) {
      if (!train_->buffers(r).arenas()->on_host(tier)) continue;
      result->rss_outside_plan_bytes -= train_->buffers(r).arenas()->bytes(tier);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<RunResult> InProcessTrainer::Run() {
  if (storage_.files.empty()) CatchInterrupts();
  RunResult result;
  std::vector<double> seconds;
  ProgressLine progress(
      total_steps_, first_step_,
      absl::StrFormat("device %.1f MiB", c_.plan.rank_plans[0].arena_bytes[0] / 1048576.0),
      options_.quiet);
  int64_t step = first_step_;
  while (step < total_steps_ && !InterruptRequested()) {
    ASSIGN_OR_RETURN(const StepMetrics m, Step(++step));
    seconds.push_back(m.step_seconds);
    if (seconds.size() == 1) {
      result.seconds_to_first_step = SecondsSinceProcessStart();
      result.loss_first = m.loss;
    }
    result.loss_last = m.loss;
    if (options_.keep_losses) result.losses.push_back(m.loss);
    if (step % std::max<int64_t>(1, p_.train().log_every()) == 0 || step == total_steps_ ||
        m.skipped) {
      RETURN_IF_ERROR(metrics_->Write(m));
    }
    progress.Update(m);
    if (m.skipped) {
      ++result.skipped_steps;
      progress.Say(absl::StrFormat("step %d  skipped: %s; loss scale %g -> %g", step,
                                   OverflowText(m), m.loss_scale, LossScaleOf(0).scale));
      RETURN_IF_ERROR(CheckLossScale(m));
    } else if (!std::isfinite(m.loss) && result.nonfinite_loss_step == 0) {
      result.nonfinite_loss_step = step;
      progress.Say(absl::StrFormat(
          "step %d  the loss is %g: what follows is lost; try a smaller optimizer.lr, or "
          "optimizer.clip_norm",
          step, m.loss));
    }
    if (p_.train().eval_every() > 0 && step % p_.train().eval_every() == 0) {
      RETURN_IF_ERROR(Evaluate(step, &result));
      if (result.evaluated) {
        progress.Say(absl::StrCat("step ", step, "  evaluation: ", ToText(result.metrics)));
      }
    }
    if (p_.checkpoint().every() > 0 && step % p_.checkpoint().every() == 0)
      RETURN_IF_ERROR(Save(step, &result));
  }
  progress.Finish();
  result.steps = step - first_step_;
  result.interrupted = step < total_steps_;
  // The first steps touch fresh memory; a median over the rest is what a long run sees.
  if (seconds.size() > 4) seconds.erase(seconds.begin(), seconds.begin() + 2);
  result.step_seconds_median = Median(seconds);
  if (result.step_seconds_median > 0) {
    result.samples_per_second =
        static_cast<double>(batches_->loader().global_batch()) / result.step_seconds_median;
  }
  if (!result.interrupted) RETURN_IF_ERROR(Evaluate(step, &result));
  RETURN_IF_ERROR(Save(step, &result));
  RETURN_IF_ERROR(WriteTrace(&result));
  RETURN_IF_ERROR(Conclude(step, &result));
  return result;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const CompiledPipeline& compiled,
                                                         const RunOptions& options) {
  auto trainer = std::make_unique<InProcessTrainer>(compiled, options);
  RETURN_IF_ERROR(trainer->Prepare());
  return std::unique_ptr<Trainer>(std::move(trainer));
}

}  // namespace millrace
