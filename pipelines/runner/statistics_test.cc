// Running statistics of batch norm in a step of several ranks and micro-batches: the mean of what all saw, once per
// step, whatever the ZeRO stage, also where a stage runs forward twice, and no part of clipping.
#include <ATen/ops/empty.h>

#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "graph/base/random.h"
#include "graph/lower/lower.h"
#include "graph/plan/planner.h"
#include "graph/runtime/buffers.h"
#include "gtest/gtest.h"
#include "models/allocator.h"
#include "models/model.h"
#include "models/model_run.h"
#include "models/probe.h"
#include "models/tensors.h"
#include "pipelines/runner/model_state.h"
#include "pipelines/runner/ranks.h"

namespace millrace {
namespace {

constexpr int kRanks = 2, kAccumulation = 2;

Machine AnyMachine() {
  Machine machine;
  machine.set_name("any");
  machine.mutable_device()->set_flops_per_second(1e12);
  machine.mutable_device()->set_memory_bytes_per_second(1e12);
  auto* link = machine.add_link();
  link->set_name("intra_node");
  link->set_bytes_per_second(1e9);
  return machine;
}

ModelDef SmallUnet() {
  return *BuildModel("unet", {{"image_size", int64_t{16}}, {"width", int64_t{2}}},
                     {.micro_batch = 2});
}

// Batch `number` of a (rank, micro-batch): images whose mean and spread say whose they are, and masks.
Tensors Batch(const ModelDef& model, int rank, int64_t micro, int64_t number) {
  Tensors batch;
  const uint64_t stream = static_cast<uint64_t>((number * kAccumulation + micro) * kRanks + rank);
  for (const TensorSpec& t : model.batch) {
    const CounterRng rng(3, HashCombine(HashString(t.name), stream));
    at::Tensor x = EmptyTensor(t, at::kCPU);
    for (int64_t i = 0; i < x.numel(); ++i) {
      if (t.dtype == DType::kF32) {
        x.data_ptr<float>()[i] = static_cast<float>((1 + rank) * rng.Normal(i) + 0.5 * micro);
      } else {
        x.data_ptr<uint8_t>()[i] = rng.Uniform(i) < 0.4;
      }
    }
    batch.push_back(std::move(x));
  }
  return batch;
}

class Batches final : public BatchSource {
 public:
  explicit Batches(const ModelDef& model) : model_(model) {}
  absl::Status Next(int rank, int64_t micro, absl::Span<void* const> tensors) override {
    const Tensors batch = Batch(model_, rank, micro, next_[rank][micro]++);
    for (size_t i = 0; i < batch.size(); ++i) {
      std::memcpy(tensors[i], batch[i].data_ptr(), batch[i].nbytes());
    }
    return absl::OkStatus();
  }

 private:
  const ModelDef& model_;
  int64_t next_[kRanks][kAccumulation] = {};
};

using Values = std::map<std::string, std::vector<float>>;

struct Variant {
  int stage;
  OptimizerKind optimizer = OptimizerKind::kAdamW;
  double clip_norm = 1e-3;  // every gradient is clipped
  int recompute_every = 0;
};

// All parameters before and after `steps` steps on two ranks.
std::pair<Values, Values> Train(const Variant& v, int steps) {
  InstallAllocators();
  const ModelDef model = SmallUnet();
  const ModelSpec spec = *Probe(model);
  LowerOptions lower;
  lower.world_size = kRanks;
  lower.zero_stage = v.stage;
  lower.accumulation = kAccumulation;
  lower.reduce_bucket_bytes = 4096;  // several buckets
  lower.optimizer = v.optimizer;
  lower.clip_norm = v.clip_norm;
  lower.recompute.every = v.recompute_every;
  const auto graph = Lower(spec, lower);
  EXPECT_TRUE(graph.ok()) << graph.status();
  const Plan plan = *MakePlan(*graph, AnyMachine(), {.world_size = kRanks});
  Batches batches(model);
  RanksOptions options;
  options.plan = &plan;
  options.reference = true;
  options.batches = &batches;
  options.model = &model;
  options.spec = &spec;
  for (int r = 0; r < kRanks; ++r) options.arenas.push_back(*RankArenas::Allocate({&plan}, r));
  auto ranks = Ranks::Create(options);
  EXPECT_TRUE(ranks.ok()) << ranks.status();
  const ModelState state = ModelState::OfModel(plan, spec, (*ranks)->all_buffers());
  EXPECT_TRUE(state.Initialise(/*seed=*/5).ok());
  const auto read = [&] {
    Values values;
    for (const ModelState::Tensor& t : state.params()) {
      values[t.name].resize(static_cast<size_t>(t.numel));
      EXPECT_TRUE(state.Read(t, values[t.name].data()).ok());
    }
    return values;
  };
  Values before = read();
  for (int step = 1; step <= steps; ++step) {
    const absl::Status status = (*ranks)->RunStep(step, {.lr = 0.01, .update = step});
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_EQ((*ranks)->unplanned_allocations(), 0);
  return {std::move(before), read()};
}

TEST(Statistics, AStepMovesThemByTheMeanOverRanksAndMicroBatches) {
  const auto [before, after] = Train({.stage = 2}, /*steps=*/1);
  const ModelDef model = SmallUnet();
  std::vector<Tensors> params;
  for (const StageDef& s : model.stages) {
    params.emplace_back();
    for (const ParamSpec& p : s.params) {
      at::Tensor t = EmptyTensor(p, at::kCPU);
      std::memcpy(t.data_ptr(), before.at(p.name).data(), t.nbytes());
      params.back().push_back(std::move(t));
    }
  }
  Values mean;  // of the statistics' gradients
  for (int rank = 0; rank < kRanks; ++rank) {
    for (int micro = 0; micro < kAccumulation; ++micro) {
      auto run = RunModel(model, params, Batch(model, rank, micro, 0), {.train = true});
      ASSERT_TRUE(run.ok()) << run.status();
      const auto g = BackwardModel(model, *std::move(run), {});
      ASSERT_TRUE(g.ok()) << g.status();
      for (size_t s = 0; s < params.size(); ++s) {
        for (size_t k = 0; k < params[s].size(); ++k) {
          const ParamSpec& p = model.stages[s].params[k];
          if (!p.statistic) continue;
          std::vector<float>& to = mean[p.name];
          to.resize(static_cast<size_t>(p.numel()));
          const float* from = g->params[s][k].const_data_ptr<float>();
          for (size_t i = 0; i < to.size(); ++i) to[i] += from[i] / (kRanks * kAccumulation);
        }
      }
    }
  }
  EXPECT_EQ(mean.size(), 2u * 22);
  int moved = 0;
  for (const auto& [name, gradient] : mean) {
    for (size_t i = 0; i < gradient.size(); ++i) {
      const float want = before.at(name)[i] - 0.1f * gradient[i];
      EXPECT_NEAR(after.at(name)[i], want, 1e-6 + 1e-5 * std::abs(want)) << name << " " << i;
      moved += after.at(name)[i] != before.at(name)[i];
    }
  }
  EXPECT_GT(moved, 100);
}

TEST(Statistics, WeightsAreTheSameForEveryStageAndWithRecompute) {
  for (const OptimizerKind optimizer : {OptimizerKind::kAdamW, OptimizerKind::kSgd}) {
    const auto [before, want] = Train({.stage = 0, .optimizer = optimizer}, 3);
    EXPECT_NE(before, want);
    for (int stage = 1; stage <= 3; ++stage) {
      EXPECT_EQ(Train({.stage = stage, .optimizer = optimizer}, 3).second, want) << stage;
    }
    EXPECT_EQ(Train({.stage = 3, .optimizer = optimizer, .recompute_every = 1}, 3).second, want);
  }
}

TEST(Statistics, ClippingLeavesThemAlone) {
  const auto clipped = Train({.stage = 1, .clip_norm = 1e-3}, 1).second,
             free = Train({.stage = 1, .clip_norm = 0}, 1).second;
  EXPECT_NE(clipped, free);
  EXPECT_EQ(clipped.at("enc1.1.running_mean"), free.at("enc1.1.running_mean"));
  EXPECT_EQ(clipped.at("fuse1.4.running_var"), free.at("fuse1.4.running_var"));
}

}  // namespace
}  // namespace millrace
