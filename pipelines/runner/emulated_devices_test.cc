// Whole trainings on devices whose memory the host cannot touch and whose streams run in any order that the plan's events
// allow: the same weights as on the CPU back end, for every stage, offload and precision.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/base/findings.h"
#include "graph/ir/pipeline_text.h"
#include "graph/verify/verify.h"
#include "pipelines/runner/compiled.h"
#include "pipelines/runner/emulated_back_end.h"
#include "pipelines/runner/trainer.h"

namespace millrace {
namespace {

using Sets = std::vector<std::string>;

struct Outcome {
  std::string weights;
  std::string metrics;
  int64_t unplanned = 0;
  int64_t captured_runs = 0;
  double issue_seconds_per_node = 0, issue_seconds_per_step = 0;
};

// A short training of digits_vit with the settings.
absl::StatusOr<Outcome> Train(Sets sets, std::shared_ptr<BackEnd> back_end) {
  sets.push_back("train.steps=3");
  sets.push_back("train.eval_every=0");
  sets.push_back("checkpoint.save=false");
  if (back_end != nullptr) sets.push_back("machine=one_gpu");
  Findings findings;
  auto loaded = LoadPipeline("pipelines/digits_vit.textproto", sets, findings);
  if (!loaded.ok()) return absl::InvalidArgumentError(findings.ToText());
  CompileOptions compile;
  compile.on_devices = true;
  compile.back_end = std::move(back_end);
  auto compiled = Compile(*std::move(loaded), {"pipelines/machines"}, findings, compile);
  if (!compiled.ok()) return absl::InvalidArgumentError(findings.ToText());
  RunOptions options;
  options.data_folders = {"pipelines", "."};
  options.run_folder = absl::StrCat(testing::TempDir(), "/run");
  options.quiet = true;
  auto trainer = Trainer::Create(*compiled, options);
  if (!trainer.ok()) return trainer.status();
  auto result = (*trainer)->Run();
  if (!result.ok()) return result.status();
  return Outcome{result->weights_sha256,         ToText(result->metrics),
                 result->unplanned_allocations,  result->captured_runs,
                 result->issue_seconds_per_node, result->issue_seconds_per_step};
}

class EmulatedDevicesTest : public testing::TestWithParam<Sets> {};

TEST_P(EmulatedDevicesTest, WeightsAreThoseOfTheCpu) {
  const auto expected = Train(GetParam(), nullptr);
  ASSERT_TRUE(expected.ok()) << expected.status();
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    EmulatedDeviceOptions options;
    options.seed = seed;
    options.guard_memory = true;
    auto back_end = std::make_shared<EmulatedBackEnd>(options);
    const auto actual = Train(GetParam(), back_end);
    ASSERT_TRUE(actual.ok()) << actual.status();
    EXPECT_EQ(actual->weights, expected->weights);
    EXPECT_EQ(actual->metrics, expected->metrics);
    EXPECT_EQ(actual->unplanned, 0);
    for (const auto& device : back_end->devices) {
      EXPECT_TRUE(device->idle());
      EXPECT_GT(device->work_run(), 0);
      EXPECT_EQ(device->allocated_bytes(), 0);
    }
  }
}

// What a CUDA graph holds is issued once and then run again and again: the step may not depend on anything else.
TEST_P(EmulatedDevicesTest, WeightsAreThoseOfTheCpuWithCapturedRuns) {
  const auto expected = Train(GetParam(), nullptr);
  ASSERT_TRUE(expected.ok()) << expected.status();
  Sets sets = GetParam();
  sets.push_back("runtime.cuda_graphs=true");
  EmulatedDeviceOptions options;
  options.seed = 3;
  options.guard_memory = true;
  auto back_end = std::make_shared<EmulatedBackEnd>(options);
  const auto actual = Train(sets, back_end);
  ASSERT_TRUE(actual.ok()) << actual.status();
  EXPECT_EQ(actual->weights, expected->weights);
  EXPECT_EQ(actual->metrics, expected->metrics);
  EXPECT_GT(actual->captured_runs, 0);
  for (const auto& device : back_end->devices) {
    // Captured in the second step and launched there, and in the third.
    EXPECT_EQ(device->launches(), 2 * actual->captured_runs);
  }
}

TEST(IssueCostTest, IsOfTheDevicesOfARunAndNoneOfTheCpu) {
  const Sets sets = {"parallel.data=2"};
  auto back_end = std::make_shared<EmulatedBackEnd>(EmulatedDeviceOptions());
  const auto devices = Train(sets, back_end);
  ASSERT_TRUE(devices.ok()) << devices.status();
  EXPECT_GT(devices->issue_seconds_per_node, 0);
  EXPECT_GT(devices->issue_seconds_per_step, 10 * devices->issue_seconds_per_node);
  EXPECT_EQ(devices->captured_runs, 0);
  for (const auto& device : back_end->devices) EXPECT_EQ(device->launches(), 0);
  const auto cpu = Train(sets, nullptr);
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  EXPECT_EQ(cpu->issue_seconds_per_node, 0);
}

const char kData[] = "parallel.data=2";

INSTANTIATE_TEST_SUITE_P(
    Settings, EmulatedDevicesTest,
    testing::Values(Sets{"parallel.data=1", "parallel.zero.stage=0"},
                    Sets{kData, "parallel.zero.stage=0"}, Sets{kData, "parallel.zero.stage=1"},
                    Sets{kData, "parallel.zero.stage=2"}, Sets{kData, "parallel.zero.stage=3"},
                    Sets{kData, "parallel.zero.stage=3", "runtime.overlap=false"},
                    Sets{kData, "parallel.zero.stage=2", "memory.offload.optimizer.tier=HOST"},
                    Sets{kData, "parallel.zero.stage=3", "memory.offload.optimizer.tier=HOST",
                         "memory.offload.parameters.tier=HOST"},
                    Sets{kData, "parallel.zero.stage=2", "memory.offload.optimizer.tier=STORAGE"},
                    Sets{kData, "parallel.zero.stage=2", "precision.mode=F16",
                         "memory.offload.optimizer.tier=HOST", "optimizer.clip_norm=1"},
                    Sets{kData, "parallel.zero.stage=1", "precision.mode=BF16",
                         "optimizer.clip_norm=1"},
                    Sets{kData, "parallel.zero.stage=2", "memory.recompute.all=true",
                         "memory.recompute.offload_inputs=true"}),
    [](const testing::TestParamInfo<Sets>& info) {
      std::string name = absl::StrCat("n", info.index, "_", absl::StrJoin(info.param, "_"));
      for (char& c : name) c = isalnum(static_cast<unsigned char>(c)) ? c : '_';
      return name;
    });

}  // namespace
}  // namespace millrace
