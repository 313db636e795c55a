// A step lowered for devices with memory of their own computes the same bits as one lowered without: it is run here by
// the CPU's executors, whose tiers are all memory of the host.
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "data/storage/storage_file.h"
#include "data/test_files.h"
#include "graph/base/random.h"
#include "graph/lower/lower.h"
#include "graph/plan/planner.h"
#include "graph/runtime/buffers.h"
#include "graph/verify/verify.h"
#include "gtest/gtest.h"
#include "models/allocator.h"
#include "models/model.h"
#include "models/probe.h"
#include "pipelines/runner/model_state.h"
#include "pipelines/runner/ranks.h"

namespace millrace {
namespace {

constexpr int kSteps = 4, kBatch = 2, kMostRanks = 2, kMostMicroBatches = 3;

Machine MachineOf(bool separate) {
  Machine machine;
  machine.set_name("any");
  machine.mutable_device()->set_kind(separate ? DeviceSpec::CUDA : DeviceSpec::CPU);
  machine.mutable_device()->set_flops_per_second(1e11);
  machine.add_link()->set_name("intra_node");
  return machine;
}

// Pictures and labels that tell rank, micro-batch and number. Keeps the order in which it was asked.
class Batches final : public BatchSource {
 public:
  explicit Batches(const ModelDef& model) : model_(model) {}
  absl::Status Next(int rank, int64_t micro, absl::Span<void* const> tensors) override {
    const auto number = static_cast<uint64_t>(next_[rank][micro]++);
    const uint64_t stream = (number * kMostMicroBatches + micro) * kMostRanks + rank;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const TensorSpec& t = model_.batch[i];
      const CounterRng rng(3, HashCombine(HashString(t.name), stream));
      for (int64_t k = 0; k < t.bytes() / SizeOf(t.dtype); ++k) {
        if (t.dtype == DType::kI64) {
          static_cast<int64_t*>(tensors[i])[k] = static_cast<int64_t>(10 * rng.Uniform(k));
        } else {
          static_cast<float*>(tensors[i])[k] = static_cast<float>(rng.Normal(k));
        }
      }
    }
    asked_[rank].push_back(micro);
    return absl::OkStatus();
  }
  const std::vector<int64_t>& asked(int rank) const { return asked_[rank]; }

 private:
  const ModelDef& model_;
  std::array<std::array<int64_t, kMostMicroBatches>, kMostRanks> next_{};
  std::array<std::vector<int64_t>, kMostRanks> asked_;
};

struct Outcome {
  std::string weights;
  std::vector<float> losses;  // per step and rank
  std::vector<char> logits;   // of an evaluation step behind them
  std::vector<std::vector<int64_t>> asked;
  int64_t pinned_bytes = 0;
};

struct Variant {
  LowerOptions options;
  DType dtype = DType::kF32;
};

Plan PlanOf(const ModelSpec& spec, LowerOptions options, bool separate) {
  options.separate_memory = separate;
  const auto graph = Lower(spec, options);
  EXPECT_TRUE(graph.ok()) << graph.status();
  auto plan = MakePlan(*graph, MachineOf(separate), {.world_size = options.world_size});
  EXPECT_TRUE(plan.ok()) << plan.status();
  const VerifyResult verified = Verify(*plan);
  EXPECT_TRUE(verified.ok) << ToText(verified, *plan);
  return *std::move(plan);
}

Outcome Train(const Variant& v, bool separate, bool reference) {
  InstallAllocators();
  ModelDef model = *BuildModel("digits_vit", {}, {.micro_batch = kBatch});
  ModelDef eval_model = *BuildModel("digits_vit", {}, {.micro_batch = kBatch, .evaluate = true});
  SetDType(v.dtype, &model);
  SetDType(v.dtype, &eval_model);
  const ModelSpec spec = *Probe(model), eval_spec = *Probe(eval_model);
  const Plan plan = PlanOf(spec, v.options, separate);
  LowerOptions evaluate = v.options;
  evaluate.kind = StepKind::kEvaluate;
  const Plan eval_plan = PlanOf(eval_spec, evaluate, separate);

  Batches batches(model), eval_batches(eval_model);
  RanksOptions options;
  options.plan = &plan;
  options.reference = reference;
  options.batches = &batches;
  options.model = &model;
  options.spec = &spec;
  std::vector<std::unique_ptr<StorageFile>> files;
  for (int r = 0; r < plan.world_size; ++r) {
    options.arenas.push_back(*RankArenas::Allocate({&plan, &eval_plan}, r));
    const int64_t bytes = options.arenas.back()->bytes(Tier::kStorage);
    if (bytes == 0) continue;
    StorageFile::Options file;
    file.path = TestPath(absl::StrCat("rank", r, separate ? ".separate" : ".one"));
    file.bytes = bytes;
    auto made = StorageFile::Create(file);
    EXPECT_TRUE(made.ok()) << made.status();
    files.push_back(*std::move(made));
    options.storage.push_back(files.back().get());
  }
  if (!reference) {
    options.threads = *MakeComputeThreads(plan.world_size, 1);
    options.lanes = LaneWorkers::Create({&plan, &eval_plan});
  }
  auto ranks = Ranks::Create(options);
  EXPECT_TRUE(ranks.ok()) << ranks.status();
  const ModelState state =
      ModelState::OfModel(plan, spec, (*ranks)->all_buffers(), options.storage);
  EXPECT_TRUE(state.Initialise(/*seed=*/5).ok());
  Outcome outcome;
  const ValueId loss = plan.graph.FindValue("loss/0");
  for (int step = 1; step <= kSteps; ++step) {
    const absl::Status status = (*ranks)->RunStep(step, {.lr = 0.01, .update = step});
    EXPECT_TRUE(status.ok()) << status;
    for (int r = 0; r < plan.world_size; ++r) {
      outcome.losses.push_back(*(*ranks)->buffers(r).as<float>(loss));
    }
  }
  EXPECT_EQ((*ranks)->unplanned_allocations(), 0);
  options.plan = &eval_plan;
  options.batches = &eval_batches;
  options.model = &eval_model;
  options.spec = &eval_spec;
  auto evaluation = Ranks::Create(options);
  EXPECT_TRUE(evaluation.ok()) << evaluation.status();
  const absl::Status status = (*evaluation)->RunStep(0, StepScalars());
  EXPECT_TRUE(status.ok()) << status;
  const ValueId logits = eval_plan.graph.FindValue("logits/0");
  outcome.logits.resize(static_cast<size_t>((*evaluation)->buffers(0).bytes(logits)));
  std::memcpy(outcome.logits.data(), (*evaluation)->buffers(0).data(logits), outcome.logits.size());
  outcome.weights = *state.WeightsSha256();
  for (int r = 0; r < plan.world_size; ++r) outcome.asked.push_back(batches.asked(r));
  outcome.pinned_bytes = plan.rank_plans[0].arena_bytes[static_cast<int>(Tier::kPinned)];
  return outcome;
}

// Once as it always was, once for a memory of its own with everything beside everything else.
void ExpectTheSame(const Variant& v, const std::string& name) {
  SCOPED_TRACE(name);
  const Outcome one = Train(v, /*separate=*/false, /*reference=*/true);
  const Outcome own = Train(v, /*separate=*/true, /*reference=*/false);
  EXPECT_EQ(own.weights, one.weights);
  EXPECT_EQ(own.losses, one.losses);
  EXPECT_EQ(own.logits, one.logits);
  EXPECT_EQ(own.asked, one.asked);
  EXPECT_EQ(one.pinned_bytes, 0);
  EXPECT_GT(own.pinned_bytes, 0);
  EXPECT_NE(one.losses.front(), one.losses.back());
}

LowerOptions Basic(int stage, int world) {
  LowerOptions o;
  o.zero_stage = stage;
  o.world_size = world;
  o.reduce_bucket_bytes = 200000;  // several buckets
  o.offload.ring_bytes = 1 << 20;
  return o;
}

TEST(SeparateMemory, EveryStageTrainsToTheSameBits) {
  for (int world : {1, 2}) {
    for (int stage = 0; stage <= 3; ++stage) {
      Variant v{Basic(stage, world)};
      v.options.clip_norm = stage % 2 == 0 ? 0.5 : 0;
      v.options.accumulation = stage == 2 ? 3 : 1;
      ExpectTheSame(v, absl::StrCat("stage ", stage, " on ", world));
    }
  }
}

TEST(SeparateMemory, OffloadToTheHostTrainsToTheSameBits) {
  for (int world : {1, 2}) {
    for (int stage = 0; stage <= 3; ++stage) {
      Variant v{Basic(stage, world)};
      v.options.offload.optimizer = Tier::kHost;
      v.options.clip_norm = world == 2 || stage == 3 ? 0.5 : 0;
      v.options.offload.ratio = stage == 1 ? 0.5 : 1;
      v.options.offload.delayed = stage == 2;
      v.options.accumulation = stage == 0 ? 2 : 1;
      if (stage == 3) v.options.offload.parameters = Tier::kHost;
      ExpectTheSame(v, absl::StrCat("stage ", stage, " on ", world));
    }
  }
}

TEST(SeparateMemory, OffloadToStorageTrainsToTheSameBits) {
  for (int world : {1, 2}) {
    for (int stage : {2, 3}) {
      Variant v{Basic(stage, world)};
      v.options.offload.optimizer = Tier::kStorage;
      v.options.clip_norm = 0.5;
      if (stage == 3) v.options.offload.parameters = Tier::kStorage;
      v.dtype = world == 2 ? DType::kBF16 : DType::kF32;
      ExpectTheSame(v, absl::StrCat("stage ", stage, " on ", world));
    }
  }
}

TEST(SeparateMemory, ALossScaleAndOffloadedInputsTrainToTheSameBits) {
  Variant scaled{Basic(1, 2), DType::kF16};
  scaled.options.loss_scale = LossScaleOptions();
  scaled.options.loss_scale->initial = 1024;
  scaled.options.loss_scale->window = 2;  // it moves
  scaled.options.offload.optimizer = Tier::kHost;
  scaled.options.offload.ratio = 0.5;
  ExpectTheSame(scaled, "fp16");
  Variant again{Basic(3, 2)};
  again.options.recompute.every = 2;
  again.options.recompute.offload_inputs = true;
  again.options.accumulation = 2;
  again.options.offload.optimizer = Tier::kHost;
  ExpectTheSame(again, "recompute with offloaded inputs");
}

}  // namespace
}  // namespace millrace
