#include "graph/lower/options.h"

#include <algorithm>
#include <cmath>

#include "graph/base/findings.h"
#include "graph/ir/machine.pb.h"
#include "graph/ir/pipeline.pb.h"

namespace millrace {

absl::Status Check(const LowerOptions& o) {
  Findings findings;
  auto require = [&](bool ok, const std::string& message, const std::string& help) {
    if (!ok) findings.Add({.check = "options", .message = message, .suggestion = help});
  };
  require(o.world_size >= 1,
          absl::StrCat("parallel.data is ", o.world_size, ", expected at least 1"),
          "set parallel.data to the number of ranks");
  require(o.zero_stage >= 0 && o.zero_stage <= 3,
          absl::StrCat("parallel.zero.stage is ", o.zero_stage, ", expected 0, 1, 2 or 3"), "");
  require(o.reduce_bucket_bytes > 0,
          absl::StrCat("parallel.zero.reduce_bucket_bytes is ", o.reduce_bucket_bytes,
                       ", expected more than 0"),
          "leave it out for 25 MiB");
  require(
      o.prefetch_depth >= 0,
      absl::StrCat("parallel.zero.prefetch_depth is ", o.prefetch_depth, ", expected 0 or more"),
      "0 gathers each bucket when it is needed");
  require(
      o.prefetch_bytes >= 0,
      absl::StrCat("parallel.zero.prefetch_bytes is ", o.prefetch_bytes, ", expected 0 or more"),
      "0 leaves the limit to prefetch_depth");
  require(o.accumulation >= 1,
          absl::StrCat("train.accumulation is ", o.accumulation, ", expected at least 1"), "");
  require(o.clip_norm >= 0,
          absl::StrCat("optimizer.clip_norm is ", o.clip_norm, ", expected 0 or more"),
          "0 switches clipping off");
  require(o.recompute.every >= 0,
          absl::StrCat("memory.recompute.every is ", o.recompute.every, ", expected 0 or more"),
          "0 recomputes nothing");
  const OffloadOptions& off = o.offload;
  require(off.ratio > 0 && off.ratio <= 1,
          absl::StrCat("memory.offload.optimizer.ratio is ", off.ratio,
                       ", expected more than 0 and at most 1"),
          "");
  require(off.staging_buckets >= 1,
          absl::StrCat("memory.offload.staging_buckets is ", off.staging_buckets,
                       ", expected at least 1"),
          "");
  require(off.parameters == Tier::kDevice || (o.zero_stage == 3 && off.any()),
          "memory.offload.parameters needs parallel.zero.stage 3 and memory.offload.optimizer", "");
  require(!off.delayed || !o.loss_scale.has_value() || !o.loss_scale->dynamic,
          "memory.offload.optimizer.delayed needs a loss scale that does not move",
          "set precision.loss_scale.static, or precision.mode to BF16");
  require(!off.delayed || off.ratio == 1, "memory.offload.optimizer.delayed needs ratio 1", "");
  return findings.ToStatus();
}

StorageRing RingOf(const StorageFiles& files) {
  StorageRing ring;
  if (files.has_block_bytes()) ring.block_bytes = files.block_bytes();
  if (files.has_queue_depth()) {
    ring.queue_depth = files.queue_depth();
  } else {
    ring.queue_depth =
        static_cast<int>(std::max<int64_t>(1, StorageRing::kBytes / ring.block_bytes));
  }
  ring.open = !files.has_block_bytes() && !files.has_queue_depth();
  return ring;
}

namespace {

DType DTypeOf(Precision_Mode mode) {
  switch (mode) {
    case Precision::BF16:
      return DType::kBF16;
    case Precision::F16:
      return DType::kF16;
    default:
      return DType::kF32;
  }
}

LossScaleOptions LossScaleOf(const LossScale& l) {
  LossScaleOptions o;
  const DynamicLossScale& d = l.dynamic();
  o.dynamic = !l.has_static_();
  o.initial = o.dynamic ? std::ldexp(1.0, d.initial_scale_power()) : l.static_();
  o.window = d.window();
  o.hysteresis = d.hysteresis();
  o.min_scale = o.dynamic ? d.min_scale() : o.initial;
  o.consecutive_hysteresis = d.consecutive_hysteresis();
  o.max_skips = l.max_skips();
  return o;
}

}  // namespace

DType ModelDType(const Pipeline& p) { return DTypeOf(p.precision().mode()); }

LowerOptions FromPipeline(const Pipeline& p) {
  LowerOptions o;
  o.world_size = p.parallel().data();
  const Zero& zero = p.parallel().zero();
  o.zero_stage = zero.stage();
  o.reduce_bucket_bytes = zero.reduce_bucket_bytes();
  o.prefetch_depth = zero.prefetch_depth();
  o.prefetch_bytes = zero.prefetch_bytes();
  switch (zero.accumulation()) {
    case Zero::REDUCE_EACH:
      o.policy = AccumulationPolicy::kReduceEach;
      break;
    case Zero::REDUCE_LAST:
      o.policy = AccumulationPolicy::kReduceLast;
      break;
    case Zero::KEEP_GATHERED:
      o.policy = AccumulationPolicy::kKeepGathered;
      break;
  }
  o.accumulation = static_cast<int>(p.train().accumulation());
  o.overlap = p.runtime().overlap();
  switch (p.optimizer().kind()) {
    case Optimizer::ADAMW:
      o.optimizer = OptimizerKind::kAdamW;
      break;
    case Optimizer::ADAM:
      o.optimizer = OptimizerKind::kAdam;
      break;
    case Optimizer::SGD:
      o.optimizer = OptimizerKind::kSgd;
      break;
  }
  o.momentum = p.optimizer().momentum() != 0;
  o.clip_norm = p.optimizer().clip_norm();
  o.reduce_dtype = DTypeOf(p.precision().reduce_dtype());
  if (p.precision().mode() == Precision::F16)
    o.loss_scale = LossScaleOf(p.precision().loss_scale());
  const Recompute& recompute = p.memory().recompute();
  o.recompute.all = recompute.all();
  o.recompute.every = recompute.every();
  o.recompute.offload_inputs = recompute.offload_inputs();
  o.recompute.stages.assign(recompute.stage().begin(), recompute.stage().end());
  const Offload& offload = p.memory().offload();
  const auto tier = [](int t) {
    return t == 0 ? Tier::kDevice : t == 1 ? Tier::kHost : Tier::kStorage;
  };
  o.offload.optimizer = tier(offload.optimizer().tier());
  o.offload.ratio = offload.optimizer().ratio();
  o.offload.delayed = offload.optimizer().delayed();
  o.offload.parameters = tier(offload.parameters().tier());
  o.offload.staging_buckets = offload.staging_buckets();
  const StorageRing ring = RingOf(offload.storage());
  o.offload.ring_bytes = ring.block_bytes * ring.queue_depth;
  return o;
}

LowerOptions FromPipeline(const Pipeline& p, const Machine& machine) {
  LowerOptions o = FromPipeline(p);
  o.separate_memory = SeparateMemoryOf(machine);
  return o;
}

bool SeparateMemoryOf(const Machine& machine) {
  return machine.device().kind() == DeviceSpec::CUDA;
}

}  // namespace millrace
