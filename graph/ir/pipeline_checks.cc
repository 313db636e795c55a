// What a pipeline's settings mean together: ranges, contradictions, and settings that change nothing (a knob that
// does nothing is an error, because its author expects something of it).
#include <cmath>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/ir/field_path.h"
#include "graph/ir/pipeline_text.h"

namespace millrace {
namespace {

class Checker {
 public:
  Checker(LoadedPipeline& p, Findings& findings) : p_(p), m_(p.proto), findings_(findings) {}

  void Run() {
    if (!m_.has_name()) {
      m_.set_name(std::filesystem::path(p_.file).stem().string());
      p_.inferred["name"] = Origin::kInferred;
    }
    WhatIsTrained();
    DataFiles();
    AugmentRanges();
    ParallelAndZero();
    PrecisionKnobs();
    OptimizerKnobs();
    ScheduleKnobs();
    TrainRanges();
    Batch();
    CheckpointAndRuntime();
    RecomputeKnobs();
    OffloadKnobs();
  }

 private:
  using Paths = std::initializer_list<const char*>;

  bool Suspect(absl::string_view path) const { return p_.locations.IsSuspect(path); }
  bool Set(const char* path) const { return IsSet(m_, path); }

  void Add(absl::string_view path, std::string check, std::string message, std::string help = "") {
    findings_.Add(p_.At(path, std::move(check), std::move(message), std::move(help)));
  }

  void Range(bool ok, const char* path, absl::string_view expected, std::string help = "") {
    if (ok || Suspect(path)) return;
    Add(path, "range", absl::StrCat(path, " is ", FieldText(m_, path), ", expected ", expected),
        std::move(help));
  }

  // `because` depends on the settings in `on`, which must themselves be beyond doubt.
  void ChangesNothing(bool unused, Paths paths, absl::string_view because, absl::string_view help,
                      Paths on = {}) {
    if (!unused) return;
    for (const char* path : on) {
      if (Suspect(path)) return;
    }
    for (const char* path : paths) {
      if (!Set(path)) continue;
      Add(path, "changes_nothing",
          absl::StrCat(path, " changes nothing ", because, ", expected it to be left out"),
          absl::StrCat("take ", path, " out, or ", help));
    }
  }

  void Missing(bool missing, const char* path, absl::string_view why, std::string help = "") {
    if (!missing || Suspect(path)) return;
    Add(path, "missing_field", absl::StrCat(path, " is missing, expected ", why), std::move(help));
  }

  void WhatIsTrained() {
    const bool doubt = Suspect("model") || Suspect("graph");
    if (!doubt && !m_.has_model() && !m_.has_graph()) {
      Add("", "missing_field",
          "nothing to train, expected `model` (a registered one) or `graph` (a step by hand)",
          "add model { name: \"...\" }; `millrace describe model` lists them");
    }
    // With buckets, the graph is the lowered step of the model, printed and perhaps edited.
    if (m_.has_model() && m_.has_graph() && m_.graph().bucket_size() == 0) {
      Add("graph", "contradiction",
          "both `model` and `graph` are set, and the graph has no buckets, expected one of them or "
          "the model's own "
          "lowered step",
          "take out the one that you do not want to train, or write what `millrace export --what "
          "graph --format "
          "text` prints");
    }
    Missing(m_.has_model() && m_.model().name().empty(), "model.name",
            "the name of a registered model", "`millrace describe model` lists them");
    ChangesNothing(m_.has_graph() && !m_.has_model(),
                   {"parallel.zero.reduce_bucket_bytes", "parallel.zero.prefetch_depth",
                    "parallel.zero.prefetch_bytes", "parallel.zero.accumulation"},
                   "for a step written by hand", "train a `model`", {"model", "graph"});
  }

  void DataFiles() {
    const Data& d = m_.data();
    if (!Suspect("data.format")) {
      const std::string format = Data::Format_Name(d.format());
      const bool synthetic = d.format() == Data::SYNTHETIC;
      const bool idx = d.format() == Data::IDX;
      const bool pictures = Pictures();
      Missing(pictures && d.folder().empty(), "data.folder",
              absl::StrCat("the data set's folder for format ", format));
      ChangesNothing(
          pictures,
          {"data.images", "data.labels", "data.eval_images", "data.eval_labels", "data.max_value"},
          absl::StrCat("with format ", format), "name the data set by data.folder",
          {"data.format"});
      ChangesNothing(!pictures,
                     {"data.folder", "data.split", "data.eval_split", "data.annotations",
                      "data.eval_annotations", "data.on_error"},
                     absl::StrCat("with format ", format), "set data.format to ISIC or COCO",
                     {"data.format"});
      ChangesNothing(d.format() == Data::ISIC, {"data.eval_annotations"},
                     "with format ISIC, whose splits lie in one file", "set data.annotations",
                     {"data.format"});
      ChangesNothing(d.format() == Data::COCO && !d.has_eval_split(), {"data.eval_annotations"},
                     "without eval_split", "set data.eval_split", {"data.format"});
      ChangesNothing(d.format() != Data::COCO, {"data.contiguous_classes"},
                     absl::StrCat("with format ", format), "set data.format to COCO",
                     {"data.format"});
      Missing(!synthetic && !pictures && d.images().empty(), "data.images",
              absl::StrCat("the ", idx ? "images' IDX file" : "train.bin", " for format ", format));
      Missing(idx && d.labels().empty(), "data.labels", "the labels' IDX file for format IDX");
      Missing(idx && d.eval_labels().empty() && !d.eval_images().empty(), "data.eval_labels",
              "the labels of eval_images for format IDX");
      ChangesNothing(
          synthetic,
          {"data.images", "data.labels", "data.eval_images", "data.eval_labels", "data.max_value"},
          "with format SYNTHETIC", "set data.format to IDX or CIFAR100", {"data.format"});
      ChangesNothing(d.format() == Data::CIFAR100, {"data.labels", "data.eval_labels"},
                     "with format CIFAR100, whose files hold the labels", "set data.format to IDX",
                     {"data.format"});
      ChangesNothing(!synthetic, {"data.synthetic_count"}, absl::StrCat("with format ", format),
                     "set data.format to SYNTHETIC", {"data.format"});
      ChangesNothing(idx && d.eval_images().empty() && !Suspect("data.eval_images"),
                     {"data.eval_labels"}, "without eval_images", "set data.eval_images");
    }
    Range(d.first() >= 0, "data.first", "0 or more");
    Range(d.count() >= 0, "data.count", "0 (all) or more");
    Range(d.eval_first() >= 0, "data.eval_first", "0 or more");
    Range(d.eval_count() >= 0, "data.eval_count", "0 (all) or more");
    Range(d.max_value() > 0, "data.max_value", "more than 0");
    Range(d.threads() >= 1, "data.threads", "1 or more threads");
    Range(d.prefetch_batches() >= 1, "data.prefetch_batches", "1 or more batches");
    Range(d.synthetic_count() >= 1, "data.synthetic_count", "1 or more samples");
  }

  bool Pictures() const {
    return m_.data().format() == Data::ISIC || m_.data().format() == Data::COCO;
  }

  void AugmentRanges() {
    const Augment& a = m_.data().augment();
    const std::string with = absl::StrCat("with format ", Data::Format_Name(m_.data().format()));
    ChangesNothing(Pictures(), {"data.augment.crop_padding", "data.augment.resize"}, with,
                   "set data.augment.crop_area_min; images get the model's size", {"data.format"});
    ChangesNothing(
        !Pictures(),
        {"data.augment.vertical_flip", "data.augment.crop_area_min", "data.augment.crop_aspect",
         "data.augment.brightness", "data.augment.contrast", "data.augment.saturation"},
        with, "set data.format to ISIC or COCO", {"data.format"});
    ChangesNothing(m_.data().format() != Data::COCO, {"data.augment.box_visible_min"}, with,
                   "set data.format to COCO", {"data.format"});
    const std::pair<const char*, double> shares[] = {
        {"data.augment.vertical_flip", a.vertical_flip()},
        {"data.augment.brightness", a.brightness()},
        {"data.augment.contrast", a.contrast()},
        {"data.augment.saturation", a.saturation()},
        {"data.augment.box_visible_min", a.box_visible_min()}};
    for (const auto& [path, value] : shares) {
      Range(value >= 0 && value <= 1, path, "0 to 1");
    }
    Range(a.crop_area_min() > 0 && a.crop_area_min() <= 1, "data.augment.crop_area_min",
          "more than 0, at most 1 (no window)");
    Range(a.crop_aspect() >= 1, "data.augment.crop_aspect", "1 or more");
    Range(a.horizontal_flip() >= 0 && a.horizontal_flip() <= 1, "data.augment.horizontal_flip",
          "a probability from 0 to 1");
    Range(a.crop_padding() >= 0, "data.augment.crop_padding", "0 or more pixels");
    Range(a.rotation_degrees() >= 0 && a.rotation_degrees() <= 180, "data.augment.rotation_degrees",
          "0 to 180 degrees");
    Range(a.scale_min() > 0, "data.augment.scale_min", "more than 0");
    Range(a.scale_max() >= a.scale_min() || Suspect("data.augment.scale_min"),
          "data.augment.scale_max",
          absl::StrCat("at least scale_min = ", FieldText(m_, "data.augment.scale_min")));
    Range(a.shift_pixels() >= 0, "data.augment.shift_pixels", "0 or more pixels");
    Range(a.resize() >= 0, "data.augment.resize", "0 (as stored) or more pixels");
    bool positive = true;
    for (double s : a.std()) positive = positive && s > 0;
    Range(positive, "data.augment.std", "numbers above 0");
    Range(a.std_size() == a.mean_size() || a.std_size() == 0 || a.mean_size() == 0 ||
              a.std_size() == 1 || a.mean_size() == 1 || Suspect("data.augment.mean"),
          "data.augment.std",
          absl::StrCat("as many entries as data.augment.mean has: ", a.mean_size()));
  }

  void ParallelAndZero() {
    const Parallel& parallel = m_.parallel();
    const Zero& zero = parallel.zero();
    Range(parallel.data() >= 1, "parallel.data", "1 or more ranks");
    for (const char* path : {"parallel.tensor", "parallel.pipeline"}) {
      const int ranks = path[9] == 't' ? parallel.tensor() : parallel.pipeline();
      if (ranks == 1 || Suspect(path)) continue;
      Add(path, "not_available",
          absl::StrCat(path, " is ", ranks, ": not available in this version, expected 1"),
          "use parallel.data");
    }
    Range(zero.stage() >= 0 && zero.stage() <= 3, "parallel.zero.stage",
          "0 (replicate), 1 (shard optimizer states), 2 (and gradients) or 3 (and parameters)");
    Range(zero.reduce_bucket_bytes() > 0, "parallel.zero.reduce_bucket_bytes", "more than 0 bytes",
          "leave it out for the default of 26214400 (25 MiB)");
    Range(zero.prefetch_depth() >= 0, "parallel.zero.prefetch_depth", "0 or more buckets");
    Range(zero.prefetch_bytes() >= 0, "parallel.zero.prefetch_bytes", "0 (no limit) or more bytes");
    if (m_.has_graph()) return;  // said already
    const bool low = zero.stage() >= 0 && zero.stage() < 3;
    ChangesNothing(
        low, {"parallel.zero.prefetch_depth", "parallel.zero.prefetch_bytes"},
        absl::StrCat("at ZeRO stage ", zero.stage(), ", which gathers no parameters ahead"),
        "set parallel.zero.stage to 3", {"parallel.zero.stage"});
    ChangesNothing(m_.train().accumulation() == 1, {"parallel.zero.accumulation"},
                   "with train.accumulation 1", "set train.accumulation to 2 or more",
                   {"train.accumulation"});
    if (low && zero.accumulation() == Zero::KEEP_GATHERED && m_.train().accumulation() != 1 &&
        !Suspect("parallel.zero.stage")) {
      Add("parallel.zero.accumulation", "changes_nothing",
          absl::StrCat("parallel.zero.accumulation is KEEP_GATHERED at ZeRO stage ", zero.stage(),
                       ", where parameters are whole; expected REDUCE_EACH or REDUCE_LAST"),
          "write REDUCE_LAST, or set parallel.zero.stage to 3");
    }
  }

  static bool PowerOfTwo(double x) {
    int exponent = 0;
    return x > 0 && std::isfinite(x) && std::frexp(x, &exponent) == 0.5;
  }

  void PrecisionKnobs() {
    const Precision& p = m_.precision();
    const std::string mode = Precision::Mode_Name(p.mode());
    const Paths on = {"precision.mode"};
    if (m_.has_graph() && !m_.has_model() && p.mode() != Precision::F32 && !Suspect("model") &&
        !Suspect("graph")) {
      Add("precision.mode", "changes_nothing",
          absl::StrCat("precision.mode ", mode,
                       " changes nothing for a step written by hand, expected it to be left out"),
          "give the graph's values a dtype, or train a `model`");
      return;
    }
    ChangesNothing(p.mode() == Precision::F32, {"precision.reduce_dtype"},
                   "with precision.mode F32", "set precision.mode to BF16 or F16", on);
    if (p.mode() != Precision::F16) {
      const Paths leaves = {"precision.loss_scale.static",
                            "precision.loss_scale.max_skips",
                            "precision.loss_scale.dynamic.initial_scale_power",
                            "precision.loss_scale.dynamic.window",
                            "precision.loss_scale.dynamic.hysteresis",
                            "precision.loss_scale.dynamic.min_scale",
                            "precision.loss_scale.dynamic.consecutive_hysteresis"};
      bool any = false;
      for (const char* leaf : leaves) any = any || Set(leaf);
      ChangesNothing(true, any ? leaves : Paths{"precision.loss_scale"},
                     absl::StrCat("with precision.mode ", mode, ", whose range is that of f32"),
                     "set precision.mode to F16", on);
    }
    if (p.mode() == Precision::F32) return;
    Range(p.reduce_dtype() == Precision::F32 || p.reduce_dtype() == p.mode() ||
              Suspect("precision.mode"),
          "precision.reduce_dtype", absl::StrCat("F32 or precision.mode's ", mode));
    if (p.mode() == Precision::F16) LossScaleKnobs(p.loss_scale());
  }

  void LossScaleKnobs(const LossScale& l) {
    if (l.has_static_() && l.has_dynamic()) {
      Add("precision.loss_scale.dynamic", "contradiction",
          "both precision.loss_scale.static and precision.loss_scale.dynamic are set, expected one "
          "of them",
          "take one of them out");
    }
    Range(!l.has_static_() || PowerOfTwo(l.static_()), "precision.loss_scale.static",
          "a power of two", "1024, 65536, ...: dividing by it again then loses nothing");
    const DynamicLossScale& d = l.dynamic();
    const char* power = "precision.loss_scale.dynamic.initial_scale_power";
    Range(d.initial_scale_power() >= 0 && d.initial_scale_power() <= 100, power, "0 to 100");
    Range(d.window() >= 1, "precision.loss_scale.dynamic.window", "1 or more steps");
    Range(d.hysteresis() >= 1, "precision.loss_scale.dynamic.hysteresis", "1 or more overflows");
    Range(PowerOfTwo(d.min_scale()) &&
              (d.min_scale() <= std::ldexp(1.0, d.initial_scale_power()) || Suspect(power)),
          "precision.loss_scale.dynamic.min_scale",
          absl::StrCat("a power of two, at most 2^initial_scale_power = 2^",
                       d.initial_scale_power()));
    ChangesNothing(d.hysteresis() == 1, {"precision.loss_scale.dynamic.consecutive_hysteresis"},
                   "with hysteresis 1", "set precision.loss_scale.dynamic.hysteresis above 1",
                   {"precision.loss_scale.dynamic.hysteresis"});
    Range(l.max_skips() >= 0, "precision.loss_scale.max_skips", "0 (never stop) or more overflows");
  }

  void OptimizerKnobs() {
    const Optimizer& o = m_.optimizer();
    Range(o.lr() > 0, "optimizer.lr", "more than 0");
    Range(o.beta1() >= 0 && o.beta1() < 1, "optimizer.beta1", "0 or more and less than 1");
    Range(o.beta2() >= 0 && o.beta2() < 1, "optimizer.beta2", "0 or more and less than 1");
    Range(o.eps() > 0, "optimizer.eps", "more than 0");
    Range(o.weight_decay() >= 0, "optimizer.weight_decay", "0 or more");
    Range(o.momentum() >= 0 && o.momentum() < 1, "optimizer.momentum", "0 or more and less than 1");
    Range(o.clip_norm() >= 0, "optimizer.clip_norm", "0 (no clipping) or more");
    const std::string kind = absl::StrCat("with optimizer.kind ", Optimizer::Kind_Name(o.kind()));
    if (o.kind() == Optimizer::SGD) {
      ChangesNothing(true, {"optimizer.beta1", "optimizer.beta2", "optimizer.eps"}, kind,
                     "set optimizer.kind to ADAMW or ADAM", {"optimizer.kind"});
      Range(!o.nesterov() || o.momentum() > 0, "optimizer.nesterov",
            "false when optimizer.momentum is 0", "set optimizer.momentum above 0");
    } else {
      ChangesNothing(true, {"optimizer.momentum", "optimizer.nesterov"}, kind,
                     "set optimizer.kind to SGD", {"optimizer.kind"});
    }
  }

  void ScheduleKnobs() {
    const LrSchedule& s = m_.lr_schedule();
    Range(s.warmup_steps() >= 0, "lr_schedule.warmup_steps", "0 or more steps");
    Range(s.total_steps() >= 0, "lr_schedule.total_steps", "0 (the run's length) or more steps");
    Range(s.warmup_min_lr() >= 0, "lr_schedule.warmup_min_lr", "0 or more");
    Range(s.warmup_min_ratio() >= 0 && s.warmup_min_ratio() <= 1, "lr_schedule.warmup_min_ratio",
          "0 to 1");
    Range(s.cos_min_ratio() >= 0 && s.cos_min_ratio() <= 1, "lr_schedule.cos_min_ratio", "0 to 1");
    const std::string kind =
        absl::StrCat("with lr_schedule.kind ", LrSchedule::Kind_Name(s.kind()));
    const Paths on = {"lr_schedule.kind"};
    ChangesNothing(s.kind() == LrSchedule::CONSTANT,
                   {"lr_schedule.warmup_steps", "lr_schedule.warmup_type"}, kind,
                   "set lr_schedule.kind to WARMUP", on);
    ChangesNothing(s.kind() == LrSchedule::CONSTANT || s.kind() == LrSchedule::WARMUP,
                   {"lr_schedule.total_steps"}, kind,
                   "set lr_schedule.kind to WARMUP_DECAY or WARMUP_COSINE", on);
    ChangesNothing(s.kind() == LrSchedule::CONSTANT || s.kind() == LrSchedule::WARMUP_COSINE,
                   {"lr_schedule.warmup_min_lr"}, kind,
                   "set lr_schedule.kind to WARMUP or WARMUP_DECAY", on);
    ChangesNothing(s.kind() != LrSchedule::WARMUP_COSINE,
                   {"lr_schedule.warmup_min_ratio", "lr_schedule.cos_min_ratio"}, kind,
                   "set lr_schedule.kind to WARMUP_COSINE", on);
  }

  void TrainRanges() {
    const Train& t = m_.train();
    Range(t.steps() >= 0, "train.steps", "more than 0 steps");
    Range(t.epochs() >= 0, "train.epochs", "more than 0 epochs");
    if (t.steps() > 0 && t.epochs() > 0) {
      Add("train.epochs", "contradiction",
          absl::StrCat("train.steps is ", t.steps(), " and train.epochs is ", t.epochs(),
                       ", expected one of them"),
          "take one out, or set it to 0");
    }
    if (t.steps() == 0 && t.epochs() == 0 && !Suspect("train.steps") && !Suspect("train.epochs")) {
      const char* path = Set("train.steps")    ? "train.steps"
                         : Set("train.epochs") ? "train.epochs"
                                               : "train";
      Add(path, "missing_field",
          "the run has no length, expected train.steps or train.epochs above 0",
          "add train { steps: 100 }");
    }
    Range(t.label_smoothing() >= 0 && t.label_smoothing() < 1, "train.label_smoothing",
          "0 or more and less than 1");
    Range(t.seed() >= 0, "train.seed", "0 or more");
    Range(t.eval_every() >= 0, "train.eval_every", "0 (only at the end) or more steps");
    Range(t.eval_batch() >= 0, "train.eval_batch", "0 (train.micro_batch) or more samples");
    Range(t.log_every() >= 1, "train.log_every", "1 or more steps");
  }

  // global = micro x accumulation x ranks: checked, or solved for what is left out.
  void Batch() {
    Train& t = *m_.mutable_train();
    const int64_t ranks = m_.parallel().data();
    Range(t.micro_batch() >= 1, "train.micro_batch", "1 or more samples");
    Range(t.accumulation() >= 1, "train.accumulation", "1 or more micro-batches");
    Range(!t.has_global_batch() || t.global_batch() >= 1, "train.global_batch",
          "1 or more samples");
    if (t.micro_batch() < 1 || t.accumulation() < 1 || ranks < 1 ||
        (t.has_global_batch() && t.global_batch() < 1)) {
      return;
    }
    for (const char* path :
         {"train.micro_batch", "train.accumulation", "train.global_batch", "parallel.data"}) {
      if (Suspect(path)) return;
    }
    int64_t product = 0;
    int64_t parts = 0;
    if (__builtin_mul_overflow(t.accumulation(), ranks, &parts) ||
        __builtin_mul_overflow(t.micro_batch(), parts, &product)) {
      Add("train.micro_batch", "batch",
          "train.micro_batch x train.accumulation x parallel.data is 2^63 or more, expected a "
          "batch that fits memory");
      return;
    }
    if (!t.has_global_batch()) {
      t.set_global_batch(product);
      p_.inferred["train.global_batch"] = Origin::kInferred;
    } else if (!t.has_micro_batch()) {
      if (t.global_batch() % parts != 0) {
        const int64_t down = t.global_batch() / parts * parts;
        const std::string either = down > 0 ? absl::StrCat(down, " or ") : "";
        Add("train.global_batch", "batch",
            absl::StrCat("train.global_batch is ", t.global_batch(),
                         ", which does not divide by train.accumulation ", t.accumulation(),
                         Given("train.accumulation"), " x parallel.data ", ranks,
                         Given("parallel.data"), " = ", parts, "; expected a multiple of ", parts,
                         " (world size not divisible)"),
            absl::StrCat("set train.global_batch to ", either, down + parts,
                         FewerRanks(t.global_batch(), t.accumulation(), ranks)));
        return;
      }
      t.set_micro_batch(t.global_batch() / parts);
      p_.inferred["train.micro_batch"] = Origin::kInferred;
    } else if (t.global_batch() != product) {
      std::string fixes = absl::StrCat("set train.global_batch to ", product, " or leave it out");
      if (t.global_batch() % parts == 0) {
        absl::StrAppend(&fixes, ", or train.micro_batch to ", t.global_batch() / parts);
      } else {
        absl::StrAppend(&fixes, ", or parallel.data and train.accumulation to numbers that divide ",
                        t.global_batch());
      }
      Add("train.global_batch", "batch",
          absl::StrCat("train.global_batch is ", t.global_batch(), ", expected train.micro_batch ",
                       t.micro_batch(), Given("train.micro_batch"), " x train.accumulation ",
                       t.accumulation(), Given("train.accumulation"), " x parallel.data ", ranks,
                       Given("parallel.data"), " = ", product),
          std::move(fixes));
    }
  }

  std::string Given(const char* path) const {
    return absl::StrCat(" (", Name(p_.OriginOf(path)), ")");
  }

  // The most ranks, fewer than `ranks`, that the batch divides by.
  static std::string FewerRanks(int64_t global, int64_t accumulation, int64_t ranks) {
    for (int64_t n = ranks - 1; n > 0; --n) {
      if (global % (n * accumulation) == 0) return absl::StrCat(", or parallel.data to ", n);
    }
    return "";
  }

  void CheckpointAndRuntime() {
    const Checkpoint& c = m_.checkpoint();
    Range(c.every() >= 0, "checkpoint.every", "0 (only at the end) or more steps");
    Range(c.keep() >= 1, "checkpoint.keep", "1 or more checkpoints");
    ChangesNothing(!c.save(), {"checkpoint.every", "checkpoint.keep"}, "with checkpoint.save false",
                   "set checkpoint.save to true", {"checkpoint.save"});
    const Runtime& r = m_.runtime();
    Range(r.threads_per_rank() >= 1, "runtime.threads_per_rank", "1 or more threads");
    Range(r.stuck_seconds() > 0, "runtime.stuck_seconds", "more than 0 seconds");
    Range(r.trace_steps() >= 0, "runtime.trace_steps", "0 (none) or more steps");
    ChangesNothing(r.executor() == Runtime::REFERENCE, {"runtime.cuda_graphs", "runtime.nvtx"},
                   "with runtime.executor REFERENCE, which knows no devices",
                   "set runtime.executor to FLOW_GRAPH", {"runtime.executor"});
  }

  // The names of stages are the model's: pipelines/runner/compiled.h checks them.
  void RecomputeKnobs() {
    const Recompute& r = m_.memory().recompute();
    Range(r.every() >= 0, "memory.recompute.every", "0 (none) or more");
    Range(!m_.memory().has_device_budget_bytes() || m_.memory().device_budget_bytes() > 0,
          "memory.device_budget_bytes", "more than 0 bytes",
          "leave it out for the machine's device.memory_bytes");
    const std::pair<const char*, bool> ways[] = {{"memory.recompute.all", r.all()},
                                                 {"memory.recompute.every", r.every() > 0},
                                                 {"memory.recompute.stage", r.stage_size() > 0},
                                                 {"memory.recompute.auto", r.auto_()}};
    ChangesNothing(!r.all() && r.every() <= 0 && r.stage_size() == 0 && !r.auto_(),
                   {"memory.recompute.offload_inputs"}, "where nothing is recomputed",
                   "set memory.recompute.all to true",
                   {"memory.recompute.all", "memory.recompute.every", "memory.recompute.stage",
                    "memory.recompute.auto"});
    const char* first = nullptr;
    for (const auto& [path, set] : ways) {
      if (!set || Suspect(path)) continue;
      if (first != nullptr) {
        Add(path, "contradiction",
            absl::StrCat("both ", first, " and ", path,
                         " say which stages are recomputed, expected one of them"),
            "take one of them out");
      }
      if (first == nullptr) first = path;
      ChangesNothing(m_.has_graph() && !m_.has_model(), {path}, "for a step written by hand",
                     "train a `model`", {"model", "graph"});
    }
  }

  void OffloadKnobs() {
    const Offload& o = m_.memory().offload();
    const int stage = m_.parallel().zero().stage();
    const bool optimizer = o.optimizer().tier() != OptimizerOffload::NONE;
    const bool parameters = o.parameters().tier() != ParameterOffload::NONE;
    Range(o.optimizer().ratio() > 0 && o.optimizer().ratio() <= 1, "memory.offload.optimizer.ratio",
          "more than 0 and at most 1", "to offload nothing, leave memory.offload.optimizer out");
    Range(o.staging_buckets() >= 1, "memory.offload.staging_buckets", "1 or more buckets");
    const Paths on = {"memory.offload.optimizer.tier"};
    ChangesNothing(!optimizer,
                   {"memory.offload.optimizer.ratio", "memory.offload.optimizer.delayed"},
                   "without memory.offload.optimizer.tier",
                   "set memory.offload.optimizer.tier to HOST or STORAGE", on);
    const bool storage = o.optimizer().tier() == OptimizerOffload::STORAGE ||
                         o.parameters().tier() == ParameterOffload::STORAGE;
    ChangesNothing(!storage && !o.auto_(),
                   {"memory.offload.staging_buckets", "memory.offload.storage.folder",
                    "memory.offload.storage.engine", "memory.offload.storage.block_bytes",
                    "memory.offload.storage.queue_depth", "memory.offload.storage.checksum"},
                   "with nothing on storage", "set memory.offload.optimizer.tier to STORAGE", on);
    if (o.auto_() && !Suspect("memory.offload.auto")) OffloadAuto();
    if (parameters && !optimizer && !Suspect("memory.offload.optimizer.tier")) {
      Add("memory.offload.parameters.tier", "contradiction",
          "memory.offload.parameters moves the parameters off the device, but their optimizer "
          "states stay there and every update would bring them back; expected "
          "memory.offload.optimizer as well",
          "add memory { offload { optimizer { tier: HOST } } }");
    }
    if (parameters && stage != 3 && !Suspect("parallel.zero.stage")) {
      Add("memory.offload.parameters.tier", "contradiction",
          absl::StrCat("memory.offload.parameters needs parameters that are brought in bucket by "
                       "bucket, but parallel.zero.stage is ",
                       stage, ", expected 3"),
          "set parallel.zero.stage to 3 (also with one rank), or take memory.offload.parameters "
          "out");
    }
    if (o.optimizer().delayed() && o.optimizer().ratio() < 1) {
      Add("memory.offload.optimizer.delayed", "contradiction",
          absl::StrCat("memory.offload.optimizer.delayed applies gradients one step late, but with "
                       "ratio ",
                       o.optimizer().ratio(),
                       " some parameters would be updated at once; expected ratio 1"),
          "take ratio or delayed out");
    }
    if (o.optimizer().delayed() && m_.precision().mode() == Precision::F16 &&
        !m_.precision().loss_scale().has_static_() && !Suspect("precision.mode")) {
      Add("memory.offload.optimizer.delayed", "contradiction",
          "memory.offload.optimizer.delayed applies gradients a step late, but the loss scale that "
          "they carry may have moved by then; expected a scale that stays",
          "set precision.loss_scale.static, or precision.mode to BF16");
    }
    const StorageFiles& files = o.storage();
    Range(!files.has_block_bytes() ||
              (files.block_bytes() >= 4096 && files.block_bytes() % 4096 == 0),
          "memory.offload.storage.block_bytes", "a multiple of 4096",
          "leave it out: a short probe of the drive chooses");
    Range(!files.has_queue_depth() || (files.queue_depth() >= 1 && files.queue_depth() <= 1024),
          "memory.offload.storage.queue_depth", "1 to 1024 requests",
          "leave it out: a short probe of the drive chooses");
    for (const char* path : {"memory.offload.optimizer.tier", "memory.offload.parameters.tier"}) {
      const bool set = path[15] == 'o' ? optimizer : parameters;
      ChangesNothing(set && m_.has_graph() && !m_.has_model(), {path}, "for a step written by hand",
                     "train a `model`", {"model", "graph"});
    }
  }

  // The choice is the planner's alone.
  void OffloadAuto() {
    const Memory& memory = m_.memory();
    const std::pair<const char*, bool> by_hand[] = {
        {"memory.offload.optimizer.tier",
         memory.offload().optimizer().tier() != OptimizerOffload::NONE},
        {"memory.offload.parameters.tier",
         memory.offload().parameters().tier() != ParameterOffload::NONE},
        {"memory.recompute.auto", memory.recompute().auto_()}};
    for (const auto& [path, set] : by_hand) {
      if (!set || Suspect(path)) continue;
      Add(path, "contradiction",
          absl::StrCat("memory.offload.auto lets the planner choose what is offloaded and "
                       "recomputed, but ",
                       path, " is set as well; expected one of them"),
          absl::StrCat("take ", path, " or memory.offload.auto out"));
    }
    ChangesNothing(m_.has_graph() && !m_.has_model(), {"memory.offload.auto"},
                   "for a step written by hand", "train a `model`", {"model", "graph"});
  }

  LoadedPipeline& p_;
  Pipeline& m_;
  Findings& findings_;
};

}  // namespace

void CheckPipeline(LoadedPipeline& pipeline, Findings& findings) {
  Checker(pipeline, findings).Run();
}

}  // namespace millrace
