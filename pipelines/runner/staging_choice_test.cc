// How many buckets must be on their way, decided from time and bytes.
#include "pipelines/runner/staging_choice.h"

#include "gmock/gmock.h"
#include "graph/lower/testing/fake_model.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

Machine WithDrive(double bytes_per_second) {
  Machine m;
  m.set_name("m");
  m.mutable_device()->set_flops_per_second(1e9);
  m.mutable_device()->set_flops_efficiency(1);
  m.mutable_device()->set_seconds_per_node(1e-9);
  m.mutable_host()->set_storage_read_bytes_per_second(bytes_per_second);
  m.mutable_host()->set_storage_write_bytes_per_second(bytes_per_second);
  m.mutable_host()->set_seconds_per_operation(0);
  return m;
}

LowerOptions OnStorage() {
  LowerOptions options{.reduce_bucket_bytes = 148};
  options.offload.optimizer = Tier::kStorage;
  return options;
}

TEST(StagingChoice, SeveralBucketsAreOnTheirWayWhereStagesAreLong) {
  const auto choice = ChooseStaging(MakeFakeModel({.stages = 12}), OnStorage(), WithDrive(4e6), {});
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_GT(choice->buckets, 2) << ToText(*choice);
  EXPECT_LT(choice->tried[1].step_seconds, choice->tried[0].step_seconds) << ToText(*choice);
}

TEST(StagingChoice, AFastDriveNeedsTheLeast) {
  const auto choice =
      ChooseStaging(MakeFakeModel({.stages = 12}), OnStorage(), WithDrive(1e15), {});
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_EQ(choice->buckets, 2) << ToText(*choice);
}

TEST(StagingChoice, TheHostsMemoryIsAHardLimit) {
  Machine machine = WithDrive(4e6);
  const ModelSpec spec = MakeFakeModel({.stages = 12});
  const auto open = ChooseStaging(spec, OnStorage(), machine, {});
  ASSERT_TRUE(open.ok()) << open.status();
  machine.set_host_memory_bytes(open->tried[0].host_bytes);
  const auto choice = ChooseStaging(spec, OnStorage(), machine, {});
  ASSERT_TRUE(choice.ok()) << choice.status();
  for (const auto& t : choice->tried) {
    if (t.buckets == choice->buckets) EXPECT_LE(t.host_bytes, open->tried[0].host_bytes);
  }
}

}  // namespace
}  // namespace millrace
