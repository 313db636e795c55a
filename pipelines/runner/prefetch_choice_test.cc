// How far ahead is worth it, decided from time and bytes.
#include "pipelines/runner/prefetch_choice.h"

#include "gmock/gmock.h"
#include "graph/lower/testing/fake_model.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::HasSubstr;

Machine WithLink(double bytes_per_second) {
  Machine m;
  m.set_name("m");
  m.mutable_device()->set_flops_per_second(1e9);
  m.mutable_device()->set_flops_efficiency(1);
  m.mutable_device()->set_memory_bytes_per_second(1e9);
  m.mutable_device()->set_seconds_per_node(1e-9);
  Link* link = m.add_link();
  link->set_name("intra_node");
  link->set_latency_seconds(0);
  link->set_bytes_per_second(bytes_per_second);
  return m;
}

// Stages of a bucket each; every third computes much, so that gathers for several fit behind it.
ModelSpec UnevenStages() {
  ModelSpec spec = MakeFakeModel({.stages = 12});
  for (size_t s = 0; s < spec.stages.size(); ++s) {
    spec.stages[s].forward_flops = s % 4 == 0 ? 8000 : 10;
    spec.stages[s].backward_flops = 2 * spec.stages[s].forward_flops;
    spec.stages[s].forward_bytes = spec.stages[s].backward_bytes = 0;
  }
  return spec;
}

LowerOptions Stage3() { return {.world_size = 2, .zero_stage = 3, .reduce_bucket_bytes = 148}; }

TEST(PrefetchChoice, AFastLinkNeedsNoMoreThanOneAhead) {
  const auto choice = ChoosePrefetch(UnevenStages(), Stage3(), WithLink(1e12), {});
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_EQ(choice->depth, 1) << ToText(*choice);
  EXPECT_EQ(choice->tried.size(), 5u);
}

TEST(PrefetchChoice, WhereAheadHidesASlowLinkItGoesAsDeepAsItPays) {
  const auto choice = ChoosePrefetch(UnevenStages(), Stage3(), WithLink(4e7), {});
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_GT(choice->depth, 1) << ToText(*choice);
  EXPECT_LT(choice->tried[1].step_seconds, choice->tried[0].step_seconds) << ToText(*choice);
  EXPECT_GT(choice->tried[1].peak_bytes, choice->tried[0].peak_bytes) << ToText(*choice);
}

TEST(PrefetchChoice, MemoryIsAHardLimit) {
  const auto open = ChoosePrefetch(UnevenStages(), Stage3(), WithLink(4e7), {});
  ASSERT_TRUE(open.ok()) << open.status();
  Machine tight = WithLink(4e7);
  tight.mutable_device()->set_memory_bytes(open->tried[0].peak_bytes);
  const auto choice = ChoosePrefetch(UnevenStages(), Stage3(), tight, {});
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_EQ(choice->depth, 1);
  EXPECT_THAT(ToText(*choice), HasSubstr("prefetch depth 1, chosen from 1 ("));
}

}  // namespace
}  // namespace millrace
