#include "graph/verify/testing/valid_plans.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/lower/lower.h"
#include "graph/lower/testing/fake_model.h"
#include "graph/plan/planner.h"
#include "graph/verify/testing/plain_planner.h"
#include "gtest/gtest.h"

namespace millrace {

NamedPlan MakeValidPlan(const LowerOptions& options, Planner planner, int stages, DType dtype,
                        bool skip_and_statistics) {
  NamedPlan named;
  named.options = options;
  named.name = absl::StrCat(
      "stage ", options.zero_stage, ", ", options.world_size, " ranks, ", options.accumulation,
      " micro-batches", options.overlap ? ", overlap" : "", options.clip_norm > 0 ? ", clip" : "",
      options.recompute.any() ? ", recompute" : "", ", policy ", static_cast<int>(options.policy),
      ", optimizer ", static_cast<int>(options.optimizer), ", ", Name(dtype), " reduced in ",
      Name(options.reduce_dtype), options.loss_scale.has_value() ? ", loss scale" : "",
      options.offload.any() ? absl::StrCat(", offload to ", Name(options.offload.optimizer), " / ",
                                           Name(options.offload.parameters),
                                           options.offload.delayed ? ", delayed" : "")
                            : "",
      skip_and_statistics ? ", skip connection and statistics" : "",
      options.separate_memory ? ", memory of its own" : "");
  FakeModelOptions model;
  model.skip_and_statistics = skip_and_statistics;
  model.stages = stages;
  model.workspace_bytes = 512;
  model.dtype = dtype;
  auto graph = Lower(MakeFakeModel(model), options);
  EXPECT_TRUE(graph.ok()) << named.name << ": " << graph.status();
  if (!graph.ok()) return named;
  if (planner == Planner::kPlain) {
    named.plan = PlainPlan(*std::move(graph), options.world_size);
    named.plan.separate_memory = options.separate_memory;
    return named;
  }
  Machine machine;
  if (options.separate_memory) machine.mutable_device()->set_kind(DeviceSpec::CUDA);
  PlanOptions plan_options;
  plan_options.world_size = options.world_size;
  auto plan = MakePlan(*std::move(graph), machine, plan_options);
  EXPECT_TRUE(plan.ok()) << named.name << ": " << plan.status();
  if (plan.ok()) named.plan = *std::move(plan);
  return named;
}

std::vector<NamedPlan> ValidPlans(Planner planner) {
  std::vector<NamedPlan> plans;
  for (int stage = 0; stage <= 3; ++stage) {
    for (int world : {1, 2, 4}) {
      for (int accumulation : {1, 2}) {
        for (bool overlap : {false, true}) {
          LowerOptions options;
          options.zero_stage = stage;
          options.world_size = world;
          options.accumulation = accumulation;
          options.overlap = overlap;
          options.reduce_bucket_bytes = 300;                        // about two stages a bucket
          options.recompute.every = world == 4 ? accumulation : 0;  // all stages, or every second
          options.clip_norm = (stage + accumulation) % 2 == 0 ? 1.0 : 0;
          plans.push_back(MakeValidPlan(options, planner));
          if (accumulation > 1 && world == 2) {
            for (const AccumulationPolicy policy :
                 {AccumulationPolicy::kReduceLast, AccumulationPolicy::kKeepGathered}) {
              options.policy = policy;
              options.optimizer = policy == AccumulationPolicy::kReduceLast ? OptimizerKind::kSgd
                                                                            : OptimizerKind::kAdam;
              options.clip_norm = 1;
              plans.push_back(MakeValidPlan(options, planner));
            }
          }
        }
      }
    }
  }
  for (int stage = 0; stage <= 3; ++stage) {
    for (int world : {1, 2}) {
      for (const DType dtype : {DType::kBF16, DType::kF16}) {
        LowerOptions options;
        options.zero_stage = stage;
        options.world_size = world;
        options.accumulation = world;
        options.reduce_bucket_bytes = 150;
        options.reduce_dtype = stage % 2 == 0 ? DType::kF32 : dtype;
        options.clip_norm = world > 1 && stage < 2 ? 1 : 0;
        if (stage == 1) options.optimizer = OptimizerKind::kSgd;
        options.momentum = world == 1;
        if (dtype == DType::kF16) options.loss_scale = LossScaleOptions();
        plans.push_back(MakeValidPlan(options, planner, 4, dtype));
      }
    }
  }
  for (int stage = 0; stage <= 3; ++stage) {
    LowerOptions options;
    options.zero_stage = stage;
    options.world_size = stage == 1 ? 1 : 2;
    options.accumulation = stage % 2 + 1;
    options.reduce_bucket_bytes = 150;
    options.recompute.every = stage == 2 ? 1 : 0;
    options.clip_norm = stage > 1 ? 1 : 0;
    plans.push_back(MakeValidPlan(options, planner, 4, DType::kF32, /*skip_and_statistics=*/true));
  }
  for (const Tier optimizer : {Tier::kHost, Tier::kStorage}) {
    for (int variant = 0; variant < 12; ++variant) {
      LowerOptions options;
      options.zero_stage = variant % 4;
      options.world_size = variant % 4 + variant / 4 == 3 ? 1 : 2;
      options.accumulation = variant % 2 + 1;
      options.overlap = variant % 3 != 2;
      options.reduce_bucket_bytes = 150;
      options.clip_norm = variant < 6 ? 1 : 0;
      if (variant % 5 == 4) options.optimizer = OptimizerKind::kSgd;
      options.offload.optimizer = optimizer;
      options.offload.ratio = variant == 5 ? 0.5 : 1;
      options.offload.delayed = variant / 4 == 1 && variant != 5;
      options.offload.staging_buckets = variant % 3 + 1;
      options.offload.ring_bytes = 8192;
      if (options.zero_stage == 3) {
        options.offload.parameters = variant < 6 ? optimizer : Tier::kHost;
      }
      const DType dtype = variant == 2 ? DType::kF16 : variant == 7 ? DType::kBF16 : DType::kF32;
      if (dtype == DType::kF16) options.loss_scale = LossScaleOptions();
      plans.push_back(MakeValidPlan(options, planner, 4, dtype));
    }
  }
  for (int variant = 0; variant < 16; ++variant) {  // devices with memory of their own
    LowerOptions options;
    options.separate_memory = true;
    options.zero_stage = variant % 4;
    options.world_size = variant % 3 + 1;
    options.accumulation = variant / 4 % 2 + 1;
    options.overlap = variant % 5 != 4;
    options.reduce_bucket_bytes = 150;
    options.clip_norm = variant % 3 == 2 ? 0 : 1;
    options.recompute.every = variant % 4 == 1 ? 2 : 0;
    options.recompute.offload_inputs = variant % 4 == 1;
    if (variant >= 4) {
      options.offload.optimizer = variant % 2 == 0 ? Tier::kHost : Tier::kStorage;
      options.offload.ratio = variant % 6 == 0 ? 0.5 : 1;
      options.offload.delayed = variant % 6 == 3;
      options.offload.ring_bytes = 8192;
      if (options.zero_stage == 3) {
        options.offload.parameters = variant < 8 ? Tier::kHost : Tier::kStorage;
      }
    }
    const DType dtype = variant % 7 == 2   ? DType::kF16
                        : variant % 7 == 4 ? DType::kBF16
                                           : DType::kF32;
    if (dtype == DType::kF16) {
      options.loss_scale = LossScaleOptions();
      options.offload.delayed = false;
    }
    plans.push_back(MakeValidPlan(options, planner, 4, dtype));
  }
  return plans;
}

}  // namespace millrace
