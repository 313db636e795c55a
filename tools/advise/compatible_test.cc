#include "tools/advise/compatible.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace millrace {
namespace {

using ::testing::HasSubstr;

// Worked out with Python's fractions, apart from the code; borders are one byte, or one parameter, on either side.
TEST(Compatible, TableOfCases) {
  const struct {
    int64_t parameters, devices, memory, host;
    int stage;
    OffloadKind offload;
    std::array<double, 4> bytes;
  } cases[] = {
      // clang-format off
      {18984197, 1, 8000000000, 0, 0, OffloadKind::kNone, {303747152, 303747152, 303747152, 303747152}},
      {18984197, 1, 433924503, 0, 0, OffloadKind::kNone, {303747152, 303747152, 303747152, 303747152}},
      {18984197, 1, 433924502, 0, 3, OffloadKind::kNvme, {303747152, 303747152, 303747152, 303747152}},
      {630894181, 1, 16000000000, 0, 0, OffloadKind::kNone, {10094306896, 10094306896, 10094306896, 10094306896}},
      {630894181, 1, 14000000000, 0, 3, OffloadKind::kNvme, {10094306896, 10094306896, 10094306896, 10094306896}},
      {630894181, 1, 15000000000, 0, 0, OffloadKind::kNone, {10094306896, 10094306896, 10094306896, 10094306896}},
      {630894181, 8, 80000000000, 0, 0, OffloadKind::kNone, {10094306896, 3469917995.5, 2365853178.75, 1261788362}},
      {630894181, 8, 8000000000, 0, 1, OffloadKind::kNone, {10094306896, 3469917995.5, 2365853178.75, 1261788362}},
      {630894181, 8, 5000000000, 0, 1, OffloadKind::kNone, {10094306896, 3469917995.5, 2365853178.75, 1261788362}},
      {630894181, 8, 4000000000, 0, 2, OffloadKind::kNone, {10094306896, 3469917995.5, 2365853178.75, 1261788362}},
      {630894181, 8, 3000000000, 0, 3, OffloadKind::kNone, {10094306896, 3469917995.5, 2365853178.75, 1261788362}},
      {630894181, 8, 2000000000, 0, 3, OffloadKind::kNone, {10094306896, 3469917995.5, 2365853178.75, 1261788362}},
      {630894181, 8, 1000000000, 8000000000, 3, OffloadKind::kCpu, {10094306896, 3469917995.5, 2365853178.75, 1261788362}},
      {630894181, 8, 1000000000, 7570730172, 3, OffloadKind::kCpu, {10094306896, 3469917995.5, 2365853178.75, 1261788362}},
      {630894181, 8, 1000000000, 7570730171, 3, OffloadKind::kNvme, {10094306896, 3469917995.5, 2365853178.75, 1261788362}},
      {630894181, 8, 1000000000, 0, 3, OffloadKind::kNvme, {10094306896, 3469917995.5, 2365853178.75, 1261788362}},
      {7500000000, 64, 32000000000, 0, 2, OffloadKind::kNone, {120000000000, 31406250000, 16640625000, 1875000000}},
      {7500000000, 64, 34359738368, 0, 2, OffloadKind::kNone, {120000000000, 31406250000, 16640625000, 1875000000}},
      {7500000000, 64, 24000000000, 0, 2, OffloadKind::kNone, {120000000000, 31406250000, 16640625000, 1875000000}},
      {7500000000, 64, 16000000000, 0, 3, OffloadKind::kNone, {120000000000, 31406250000, 16640625000, 1875000000}},
      {7500000000, 64, 3000000000, 0, 3, OffloadKind::kNone, {120000000000, 31406250000, 16640625000, 1875000000}},
      {7500000000, 64, 2000000000, 90000000000, 3, OffloadKind::kCpu, {120000000000, 31406250000, 16640625000, 1875000000}},
      {7500000000, 64, 2000000000, 89000000000, 3, OffloadKind::kNvme, {120000000000, 31406250000, 16640625000, 1875000000}},
      {10000000000, 8, 80000000000, 0, 1, OffloadKind::kNone, {160000000000, 55000000000, 37500000000, 20000000000}},
      {10000000000, 8, 85899345920, 0, 1, OffloadKind::kNone, {160000000000, 55000000000, 37500000000, 20000000000}},
      {10000000000, 8, 28000000000, 500000000000, 3, OffloadKind::kCpu, {160000000000, 55000000000, 37500000000, 20000000000}},
      {10000000000, 16, 80000000000, 0, 1, OffloadKind::kNone, {160000000000, 47500000000, 28750000000, 10000000000}},
      {3500000000, 1, 80000000000, 0, 3, OffloadKind::kNvme, {56000000000, 56000000000, 56000000000, 56000000000}},
      {3499999999, 1, 80000000000, 0, 0, OffloadKind::kNone, {55999999984, 55999999984, 55999999984, 55999999984}},
      {3500000000, 2, 80000000000, 0, 1, OffloadKind::kNone, {56000000000, 35000000000, 31500000000, 28000000000}},
      {3777317153, 8, 40000000000, 0, 1, OffloadKind::kNone, {60437074448, 20775244341.5, 14164939323.75, 7554634306}},
      {3777317153, 4, 40000000000, 0, 1, OffloadKind::kNone, {60437074448, 26441220071, 20775244341.5, 15109268612}},
      // clang-format on
  };
  for (const auto& c : cases) {
    const CompatibleAdvice a = AdviseCompatibly({c.parameters, c.devices, c.memory, c.host});
    const std::string name = std::to_string(c.parameters) + " on " + std::to_string(c.devices) +
                             " of " + std::to_string(c.memory);
    EXPECT_EQ(a.stage, c.stage) << name;
    EXPECT_EQ(a.offload, c.offload) << name;
    for (int s = 0; s < 4; ++s) EXPECT_DOUBLE_EQ(a.bytes[s], c.bytes[s]) << name << ", stage " << s;
  }
}

TEST(Compatible, AStageAtTheLimitIsNotBelowIt) {
  // 16 B x 700 = 11,200 = 70 % of 16,000.
  EXPECT_FALSE(AdviseCompatibly({700, 1, 16000, 0}).below[0]);
  EXPECT_TRUE(AdviseCompatibly({700, 1, 16001, 0}).below[0]);
}

TEST(Compatible, BytesPerParameterAreTheFormulas) {
  const CompatibleAdvice a = AdviseCompatibly({1, 4, 1, 0});
  EXPECT_EQ(a.per_param, (std::array<double, 4>{16, 7, 5.5, 4}));
}

TEST(Compatible, TextSaysWhichAndWhy) {
  const auto text = [](const CompatibleInput& in) { return ToText(AdviseCompatibly(in), in); };
  EXPECT_THAT(text({7500000000, 64, 32000000000, 0}),
              HasSubstr("use ZeRO stage 2: the first below 70 %"));
  EXPECT_THAT(text({7500000000, 64, 2000000000, 0}), HasSubstr("give --host_memory"));
  EXPECT_THAT(text({7500000000, 64, 2000000000, 90000000000}), HasSubstr("with CPU offload"));
  EXPECT_THAT(text({7500000000, 64, 2000000000, 80000000000}),
              HasSubstr("90.000 GB do not fit the host's memory (80.000 GB)"));
}

}  // namespace
}  // namespace millrace
