#include "graph/sim/what_if.h"

#include "gmock/gmock.h"
#include "graph/sim/simulate.h"
#include "graph/sim/testing/tiny_plan.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::HasSubstr;

TEST(WhatIf, AFactorMultipliesAndAPlainNumberReplaces) {
  const auto what =
      ParseWhatIf({"link.intra_node=0.5x", "device.flops=7e9", "rank.1=1.5x"}, SlowMachine(), 2);
  ASSERT_TRUE(what.ok()) << what.status();
  EXPECT_EQ(what->machine.link(0).bytes_per_second(), 0.5);
  EXPECT_EQ(what->machine.device().flops_per_second(), 7e9);
  EXPECT_EQ(what->slowdown.at(1), 1.5);
}

TEST(WhatIf, TheHostsAndTheDrivesRatesCanBeOthers) {
  const auto what = ParseWhatIf({"storage.read=2x", "storage.write=3e9", "host.to_device=0.5x",
                                 "host.from_device=4e9", "host.memory_bandwidth=2x"},
                                SlowMachine(), 2);
  ASSERT_TRUE(what.ok()) << what.status();
  const Host &host = what->machine.host(), before = SlowMachine().host();
  EXPECT_EQ(host.storage_read_bytes_per_second(), 2 * before.storage_read_bytes_per_second());
  EXPECT_EQ(host.storage_write_bytes_per_second(), 3e9);
  EXPECT_EQ(host.host_to_device_bytes_per_second(), before.host_to_device_bytes_per_second() / 2);
  EXPECT_EQ(host.device_to_host_bytes_per_second(), 4e9);
  EXPECT_EQ(host.memory_bytes_per_second(), 2 * before.memory_bytes_per_second());
}

TEST(WhatIf, AllThatCannotBeReadIsNamedWithWhatIsNear) {
  const auto what =
      ParseWhatIf({"link.intra_nod=2x", "rank.9=2x", "device.flops=fast"}, SlowMachine(), 2);
  ASSERT_FALSE(what.ok());
  const std::string text(what.status().message());
  EXPECT_THAT(text, HasSubstr("link.intra_node"));
  EXPECT_THAT(text, HasSubstr("rank.9"));
  EXPECT_THAT(text, HasSubstr("device.flops=fast"));
}

TEST(WhatIf, HalfTheRateOfALinkDoublesWhatCrossesIt) {
  TinyPlan t(2);
  t.Compute("a", 2);
  t.Gather("g", 3);
  Plan plan = t.Build();
  plan.rank_plans[0].seconds[1] = 6;  // measured: twice what the model says
  const auto what = ParseWhatIf({"link.intra_node=0.5x"}, SlowMachine(), 2);
  ASSERT_TRUE(what.ok());
  SimOptions options;
  options.seconds = SecondsOn(plan, SlowMachine(), what->machine);
  const auto result = Simulate(plan, what->machine, options);
  ASSERT_TRUE(result.ok());
  EXPECT_DOUBLE_EQ(result->step_seconds, 2 + 12);
}

}  // namespace
}  // namespace millrace
