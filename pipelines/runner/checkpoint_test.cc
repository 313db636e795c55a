// Checkpoints of a model that exists on paper only, on two ranks: what was saved comes back under any ZeRO stage and
// world size, what does not fit is refused as a whole, and a step's folder is there complete or not at all.
#include "pipelines/runner/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "data/file.h"
#include "data/safetensors/safetensors.h"
#include "data/test_files.h"
#include "graph/lower/lower.h"
#include "graph/lower/testing/fake_model.h"
#include "graph/plan/planner.h"
#include "graph/runtime/buffers.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

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

// The tensors of a run on `world` ranks at a ZeRO stage, filled from a seed.
struct Trained {
  Trained(int world, int stage, uint64_t seed,
          std::vector<std::vector<int64_t>> params = {{8, 4}, {5}}, DType dtype = DType::kF32) {
    ModelSpec spec = MakeFakeModel({.params = std::move(params), .dtype = dtype});
    for (StageSpec& s : spec.stages) {
      for (ParamSpec& p : s.params) p.init = {InitSpec::Kind::kNormal, 1};
    }
    LowerOptions options;
    options.world_size = world;
    options.zero_stage = stage;
    if (dtype == DType::kF16) options.loss_scale = LossScaleOptions();
    plan = std::make_unique<Plan>(
        *MakePlan(*Lower(spec, options), AnyMachine(), {.world_size = world}));
    std::vector<const RankBuffers*> all;
    for (int r = 0; r < world; ++r) {
      ranks.push_back(std::make_unique<RankBuffers>(*RankBuffers::Create(*plan, r)));
      all.push_back(ranks.back().get());
    }
    state = std::make_unique<ModelState>(ModelState::OfModel(*plan, spec, all));
    state->Initialise(seed);
    float next = static_cast<float>(seed);
    for (const ModelState::Tensor& t : state->states()) {
      std::vector<float> v(t.bytes() / sizeof(float));
      for (float& x : v) x = next++;
      EXPECT_TRUE(state->Write(t, v.data()).ok());
    }
  }

  // Everything that a checkpoint holds, in one row.
  std::vector<char> Values() const {
    std::vector<char> all;
    for (const auto* list : {&state->params(), &state->states()}) {
      for (const ModelState::Tensor& t : *list) {
        all.resize(all.size() + t.bytes());
        EXPECT_TRUE(state->Read(t, all.data() + all.size() - t.bytes()).ok());
      }
    }
    return all;
  }

  std::unique_ptr<Plan> plan;
  std::vector<std::unique_ptr<RankBuffers>> ranks;
  std::unique_ptr<ModelState> state;
};

RunPosition At(int64_t step) {
  RunPosition p;
  p.step = step;
  p.epoch = 2;
  p.batch = 7;
  p.seed = 5;
  p.global_batch = 50;
  p.pipeline = "fake";
  p.optimizer = "ADAMW";
  return p;
}

std::vector<std::string> Names(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& e : std::filesystem::directory_iterator(folder))
    names.push_back(e.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(Checkpoint, ComesBackUnderEveryStageAndWorldSize) {
  const std::string folder = TestPath("checkpoints");
  const Trained saved(2, 2, /*seed=*/1);
  ASSERT_TRUE(SaveCheckpoint(folder, *saved.state, At(20), 2).ok());
  for (int world : {1, 2, 4}) {
    for (int stage = 0; stage < 4; ++stage) {
      const Trained loaded(world, stage, /*seed=*/2);
      ASSERT_NE(loaded.Values(), saved.Values());
      const auto position = LoadCheckpoint(folder, "ADAMW", *loaded.state);
      ASSERT_TRUE(position.ok()) << position.status();
      EXPECT_EQ(loaded.Values(), saved.Values()) << world << " ranks, stage " << stage;
      EXPECT_EQ(*loaded.state->WeightsSha256(), *saved.state->WeightsSha256());
      EXPECT_EQ(position->step, 20);
      EXPECT_EQ(position->epoch, 2);
      EXPECT_EQ(position->batch, 7);
      EXPECT_EQ(position->seed, 5);
      EXPECT_EQ(position->global_batch, 50);
    }
  }
}

TEST(Checkpoint, SixteenBitsMastersAndLossScaleComeBackUnderEveryStage) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    const std::string folder = TestPath(absl::StrCat("checkpoints_", Name(dtype)));
    const Trained saved(2, 2, /*seed=*/1, {{8, 4}, {5}}, dtype);
    const std::string step = *SaveCheckpoint(folder, *saved.state, At(20), 2);
    for (int stage = 0; stage < 4; ++stage) {
      const Trained loaded(2, stage, /*seed=*/2, {{8, 4}, {5}}, dtype);
      const auto position = LoadCheckpoint(folder, "ADAMW", *loaded.state);
      ASSERT_TRUE(position.ok()) << position.status();
      EXPECT_EQ(loaded.Values(), saved.Values()) << "stage " << stage;
    }
    const auto model = SafetensorsFile::Open(step + "/model.safetensors");
    const auto states = SafetensorsFile::Open(step + "/optimizer.safetensors");
    EXPECT_EQ(model->Find("a.p0")->dtype, dtype);
    EXPECT_EQ(states->Find("master.a.p0")->dtype, DType::kF32);
    EXPECT_EQ(states->Find("loss_scale") != nullptr, dtype == DType::kF16);
    // Another precision goes on with the weights alone.
    const Trained other(2, 2, /*seed=*/2);
    ExpectError(LoadCheckpoint(folder, "ADAMW", *other.state).status(),
                absl::StatusCode::kInvalidArgument,
                {absl::StrCat("'a.p0' is ", Name(dtype), " [8, 4], the model has f32 [8, 4]"),
                 "checkpoint.init_from"});
  }
}

TEST(Checkpoint, WeightsLoadFromOtherPrecisions) {
  const std::string folder = TestPath("checkpoints");
  const Trained saved(2, 2, /*seed=*/1);
  const std::string model = *SaveCheckpoint(folder, *saved.state, At(1), 1) + "/model.safetensors";
  const std::vector<std::vector<int64_t>> params = {{8, 4}, {5}};
  const Trained half(2, 2, /*seed=*/2, params, DType::kBF16);
  ASSERT_TRUE(LoadWeights(model, *half.state).ok());
  // The masters have all of it, the parameters what 16 bits hold.
  const Trained same(2, 2, /*seed=*/1, params, DType::kBF16);
  EXPECT_EQ(half.state->WeightsSha256(), same.state->WeightsSha256());
  std::vector<float> master(32), weights(32);
  half.state->Read(half.state->states()[0], master.data());
  saved.state->Read(saved.state->params()[0], weights.data());
  EXPECT_EQ(half.state->states()[0].name, "master.a.p0");
  EXPECT_EQ(master, weights);
  // And back: what was rounded stays so.
  const std::string rounded =
      *SaveCheckpoint(folder + "16", *half.state, At(1), 1) + "/model.safetensors";
  const Trained wide(1, 0, /*seed=*/3);
  ASSERT_TRUE(LoadWeights(rounded, *wide.state).ok());
  std::vector<float> back(32);
  wide.state->Read(wide.state->params()[0], back.data());
  EXPECT_NE(back, weights);
  for (int i = 0; i < 32; ++i) EXPECT_NEAR(back[i], weights[i], 0.004 * std::abs(weights[i]));
}

TEST(Checkpoint, TheNewestAreKeptAndTheNewestIsLoaded) {
  const std::string folder = TestPath("checkpoints");
  for (int64_t step : {1, 9, 10, 200}) {
    const Trained run(2, 3, /*seed=*/step);
    const auto path = SaveCheckpoint(folder, *run.state, At(step), 2);
    ASSERT_TRUE(path.ok()) << path.status();
    EXPECT_EQ(*path, *NewestCheckpoint(folder));
  }
  EXPECT_EQ(Names(folder), (std::vector<std::string>{"step-00000010", "step-00000200"}));
  const Trained run(2, 3, /*seed=*/0);
  EXPECT_EQ(LoadCheckpoint(folder, "ADAMW", *run.state)->step, 200);
  EXPECT_EQ(run.Values(), Trained(2, 3, 200).Values());
  EXPECT_EQ(LoadCheckpoint(folder + "/step-00000010", "ADAMW", *run.state)->step, 10);
  EXPECT_EQ(run.Values(), Trained(2, 3, 10).Values());
}

TEST(Checkpoint, SavingTheSameStepAgainReplacesIt) {
  const std::string folder = TestPath("checkpoints");
  ASSERT_TRUE(SaveCheckpoint(folder, *Trained(1, 0, 1).state, At(3), 2).ok());
  ASSERT_TRUE(SaveCheckpoint(folder, *Trained(1, 0, 2).state, At(3), 2).ok());
  const Trained run(1, 0, 9);
  ASSERT_TRUE(LoadCheckpoint(folder, "ADAMW", *run.state).ok());
  EXPECT_EQ(run.Values(), Trained(1, 0, 2).Values());
  EXPECT_EQ(Names(folder + "/step-00000003"),
            (std::vector<std::string>{"model.safetensors", "optimizer.safetensors", "state.json"}));
}

TEST(Checkpoint, AFolderOfAnInterruptedSaveIsNoCheckpoint) {
  const std::string folder = TestPath("checkpoints");
  ASSERT_TRUE(SaveCheckpoint(folder, *Trained(1, 0, 1).state, At(3), 1).ok());
  ASSERT_TRUE(MakeDirectories(folder + "/step-00000004.tmp.123").ok());
  EXPECT_EQ(*NewestCheckpoint(folder), folder + "/step-00000003");
  ExpectError(NewestCheckpoint(folder + "/none").status(), absl::StatusCode::kNotFound,
              {folder + "/none", "step-"});
}

TEST(Checkpoint, WhatDoesNotFitIsRefusedWithEveryTensorAndNothingChanges) {
  const std::string folder = TestPath("checkpoints");
  ASSERT_TRUE(SaveCheckpoint(folder, *Trained(2, 2, 1).state, At(3), 1).ok());
  const Trained other(2, 2, /*seed=*/2, /*params=*/{{8, 4}, {6}, {7}});
  const std::vector<char> before = other.Values();
  const absl::Status status = LoadCheckpoint(folder, "ADAMW", *other.state).status();
  ExpectError(status, absl::StatusCode::kInvalidArgument,
              {"model.safetensors", "optimizer.safetensors",
               "tensor 'a.p1' is f32 [5], the model has f32 [6]", "tensor 'c.p2' is missing",
               "'exp_avg_sq.b.p2' is missing"});
  EXPECT_EQ(other.Values(), before);
  ExpectError(LoadCheckpoint(folder, "SGD", *Trained(2, 2, 1).state).status(),
              absl::StatusCode::kInvalidArgument,
              {"state.json", "trained with ADAMW", "optimizer.kind: SGD", "help: "});
  // A model with fewer parameters would silently lose some.
  ExpectError(LoadCheckpoint(folder, "ADAMW", *Trained(2, 2, 1, {{8, 4}}).state).status(),
              absl::StatusCode::kInvalidArgument, {"holds 6 tensors, the model has 3"});
}

TEST(Checkpoint, DamageIsSeenAndNamed) {
  const std::string folder = TestPath("checkpoints");
  const Trained run(2, 2, 1);
  const std::string step = *SaveCheckpoint(folder, *run.state, At(3), 1);
  const std::string model = step + "/model.safetensors", state = step + "/state.json";
  const std::string good_model = *ReadFile(model), good_state = *ReadFile(state);
  std::string flipped = good_model;
  flipped.back() ^= 1;
  for (const auto& [file, content] : std::vector<std::pair<std::string, std::string>>{
           {model, flipped},
           {model, good_model.substr(0, good_model.size() - 4)},
           {model, ""},
           {state, "{}"},
           {state, "{\"format\": 1, \"step\": \"x\"}"},
           {state, ""}}) {
    ASSERT_TRUE(WriteFileAtomically(file, content).ok());
    const absl::Status status = LoadCheckpoint(folder, "ADAMW", *run.state).status();
    EXPECT_FALSE(status.ok());
    EXPECT_NE(status.message().find(file), absl::string_view::npos) << status;
    ASSERT_TRUE(WriteFileAtomically(model, good_model).ok());
    ASSERT_TRUE(WriteFileAtomically(state, good_state).ok());
  }
  EXPECT_TRUE(LoadCheckpoint(folder, "ADAMW", *run.state).ok());
}

TEST(Checkpoint, WeightsAloneLoadByNameAndLeaveTheOptimizerAsItIs) {
  const std::string folder = TestPath("checkpoints");
  const Trained saved(2, 2, 1), other(1, 0, 2);
  const std::string step = *SaveCheckpoint(folder, *saved.state, At(3), 1);
  ASSERT_TRUE(LoadWeights(step + "/model.safetensors", *other.state).ok());
  EXPECT_EQ(*other.state->WeightsSha256(), *saved.state->WeightsSha256());
  EXPECT_NE(other.Values(), saved.Values());
}

}  // namespace
}  // namespace millrace
