// Plans for devices with memory of their own: what the check of sides refuses.
#include "gmock/gmock.h"
#include "graph/lower/lower.h"
#include "graph/lower/testing/fake_model.h"
#include "graph/plan/hash.h"
#include "graph/plan/planner.h"
#include "graph/verify/testing/valid_plans.h"
#include "graph/verify/verify.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

LowerOptions Offloaded() {
  LowerOptions options;
  options.clip_norm = 1;
  options.world_size = 2;
  options.zero_stage = 2;
  options.offload.optimizer = Tier::kHost;
  return options;
}

Plan OnCuda(const LowerOptions& options) {
  Machine machine;
  machine.mutable_device()->set_kind(DeviceSpec::CUDA);
  return *MakePlan(*Lower(MakeFakeModel(), options), machine, {.world_size = options.world_size});
}

const CheckResult& Sides(const VerifyResult& result) {
  for (const CheckResult& check : result.checks) {
    if (check.name == "sides") return check;
  }
  return result.checks.back();
}

TEST(MemorySides, AStepLoweredForOneMemoryIsRefusedOnADeviceWithItsOwn) {
  const VerifyResult result = Verify(OnCuda(Offloaded()));
  EXPECT_FALSE(result.ok);
  EXPECT_FALSE(Sides(result).ok);
  EXPECT_THAT(
      result.findings.ToText(),
      AllOf(HasSubstr("host_grad/bucket_0 is in pageable memory, which no copy engine reaches"),
            HasSubstr("is the host's work, but touches clip in the device's memory")));
}

TEST(MemorySides, TheSameStepLoweredForItPasses) {
  LowerOptions options = Offloaded();
  options.separate_memory = true;
  const VerifyResult result = Verify(OnCuda(options));
  EXPECT_TRUE(result.ok) << result.findings.ToText();
  EXPECT_THAT(Sides(result).facts, HasSubstr("copies between device and pinned memory"));
}

TEST(MemorySides, ACollectiveOnHostMemoryIsRefused) {
  LowerOptions options = Offloaded();
  options.separate_memory = true;
  options.overlap = false;
  Plan plan = OnCuda(options);
  // The norm as the host made it instead of its copy.
  GraphBuilder b(plan.graph);
  b.node(plan.graph.FindNode("all_gather/norm")).inputs = {plan.graph.FindValue("norm")};
  plan.graph = *std::move(b).Build();
  plan.hash = PlanHash(plan);
  EXPECT_THAT(Verify(plan).findings.ToText(),
              HasSubstr("is the device's work, but touches norm in pinned memory"));
}

TEST(MemorySides, WhereThereIsOneMemoryNothingIsAsked) {
  LowerOptions options = Offloaded();
  const Plan plan = *MakePlan(*Lower(MakeFakeModel(), options), Machine(), {.world_size = 2});
  const VerifyResult result = Verify(plan);
  EXPECT_TRUE(result.ok) << result.findings.ToText();
  EXPECT_EQ(Sides(result).facts, "device and host have one memory");
}

}  // namespace
}  // namespace millrace
