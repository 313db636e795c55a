// Where values lie: offsets, shards, and what plans may share.

#include "graph/runtime/buffers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "graph/runtime/groups.h"

namespace millrace {
namespace {

using testing::HasSubstr;

// A persistent parameter of 256 bytes, sharded over two ranks, and an activation of `activation` bytes.
Plan SmallPlan(const std::string& name, int64_t activation, int64_t parameter_offset = 0) {
  GraphBuilder builder(name);
  builder.SetGroup("data", 2);
  const BufferId p =
      builder.AddBuffer({"param", 256, Tier::kDevice, BufferKind::kParameter, /*persistent=*/true});
  builder.AddValue({"param", DType::kF32, {64}, Sharding::kReplicated, p});
  Value shard{"param/own", DType::kF32, {32}, Sharding::kSharded, p};
  shard.own_shard = true;
  shard.group = "data";
  builder.AddValue(shard);
  Value act{"act", DType::kU8, {activation}};
  builder.AddValueWithBuffer(act, BufferKind::kActivation);
  Plan plan;
  plan.name = name;
  plan.world_size = 2;
  plan.graph = *std::move(builder).Build();
  RankPlan rank_plan;
  rank_plan.ranks = {0, 1};
  rank_plan.offset = {parameter_offset, 320};
  rank_plan.persistent_bytes[0] = 320;
  rank_plan.arena_bytes[0] = 320 + activation;
  plan.rank_plans = {rank_plan};
  return plan;
}

TEST(BuffersTest, ARanksShardLiesAtItsPlaceInTheGroup) {
  const Plan plan = SmallPlan("train", 100);
  for (int rank = 0; rank < 2; ++rank) {
    const RankBuffers buffers = *RankBuffers::Create(plan, rank);
    char* base = static_cast<char*>(buffers.arenas()->base(Tier::kDevice));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(base) % 64, 0u);
    EXPECT_EQ(buffers.data(plan.graph.FindValue("param")), base);
    EXPECT_EQ(buffers.data(plan.graph.FindValue("param/own")), base + 128 * rank);
    EXPECT_EQ(buffers.data(plan.graph.FindValue("act")), base + 320);
    EXPECT_EQ(buffers.bytes(plan.graph.FindValue("param/own")), 128);
    EXPECT_EQ(buffers.buffer(1), base + 320);
    for (int i = 0; i < 420; ++i) ASSERT_EQ(base[i], 0);
  }
}

TEST(BuffersTest, PlansOfEqualPersistentLayoutShareMemoryOfTheLargest) {
  const Plan train = SmallPlan("train", 100);
  const Plan evaluate = SmallPlan("evaluate", 5000);
  RankArenas::Options options;
  options.prefault = true;
  auto arenas = RankArenas::Allocate({&train, &evaluate}, 1, options);
  ASSERT_TRUE(arenas.ok()) << arenas.status();
  EXPECT_EQ((*arenas)->bytes(Tier::kDevice), 5320);
  const RankBuffers a = *RankBuffers::Create(train, 1, *arenas);
  const RankBuffers b = *RankBuffers::Create(evaluate, 1, *arenas);
  EXPECT_EQ(a.data(0), b.data(0));
}

TEST(BuffersTest, PlansOfOtherPersistentLayoutAreRefused) {
  const Plan train = SmallPlan("train", 100);
  const Plan evaluate = SmallPlan("evaluate", 100, /*parameter_offset=*/64);
  const absl::Status status = RankArenas::Allocate({&train, &evaluate}, 0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("param: 256 bytes at 0 (device) in train, 256 bytes at 64 (device) in "
                        "evaluate"));
}

TEST(BuffersTest, AValueOutsideItsArenaIsRefused) {
  Plan plan = SmallPlan("train", 100);
  plan.rank_plans[0].offset[1] = 384;
  const absl::Status status = RankBuffers::Create(plan, 0).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("value act of rank 0: bytes 384 to 484"));
}

// A device that has nothing but memory.
class MemoryOnly final : public Device {
 public:
  std::string Describe() const override { return "memory"; }
  absl::string_view kernels() const override { return ""; }
  absl::StatusOr<void*> Allocate(Tier tier, int64_t bytes) override {
    if (refuse) return absl::ResourceExhaustedError("no device memory");
    if (tier != Tier::kDevice) return nullptr;
    return memory;
  }
  void Release(Tier tier, void* base, int64_t bytes) override {
    EXPECT_EQ(tier, Tier::kDevice);
    EXPECT_EQ(base, memory);
    EXPECT_EQ(bytes, 420);
    ++released;
  }
  absl::Status Read(void* host, const void* at, int64_t bytes) override {
    ++copies;
    std::memcpy(host, at, bytes);
    return absl::OkStatus();
  }
  absl::Status Write(void* at, const void* host, int64_t bytes) override {
    return Read(at, host, bytes);
  }
  absl::StatusOr<StreamId> NewStream(const std::string&) override { return 0; }
  absl::StatusOr<EventId> NewEvent() override { return 0; }
  void* native(StreamId) const override { return nullptr; }
  absl::Status BeginIssue() override { return absl::OkStatus(); }
  absl::Status Enqueue(StreamId, Work) override { return absl::OkStatus(); }
  absl::Status Copy(StreamId, void*, const void*, int64_t) override { return absl::OkStatus(); }
  absl::Status Record(StreamId, EventId) override { return absl::OkStatus(); }
  absl::Status Wait(StreamId, EventId) override { return absl::OkStatus(); }
  absl::Status BeginCapture(StreamId) override { return absl::OkStatus(); }
  absl::StatusOr<GraphId> EndCapture(StreamId) override { return 0; }
  absl::Status Launch(StreamId, GraphId) override { return absl::OkStatus(); }
  absl::StatusOr<bool> Reached(EventId) override { return true; }
  absl::StatusOr<int64_t> TimeOf(EventId) override { return 0; }
  void Abandon(const absl::Status&) override {}

  alignas(64) char memory[420] = {};
  bool refuse = false;
  int released = 0, copies = 0;
};

TEST(BuffersTest, ADevicesMemoryIsTheTiersAndIsReadAndWrittenThroughIt) {
  const Plan plan = SmallPlan("train", 100);
  auto device = std::make_shared<MemoryOnly>();
  RankArenas::Options options;
  options.device = device;
  {
    auto arenas = RankArenas::Allocate({&plan}, 0, options);
    ASSERT_TRUE(arenas.ok());
    EXPECT_EQ((*arenas)->base(Tier::kDevice), device->memory);
    auto buffers = RankBuffers::Create(plan, 0, *arenas);
    ASSERT_TRUE(buffers.ok());
    std::vector<char> in(buffers->bytes(0), 'x'), out(buffers->bytes(0));
    ASSERT_TRUE(buffers->Write(0, in.data()).ok());
    ASSERT_TRUE(buffers->Read(0, out.data()).ok());
    EXPECT_EQ(in, out);
    EXPECT_EQ(device->copies, 2);
  }
  EXPECT_EQ(device->released, 1);
  device->refuse = true;
  EXPECT_EQ(RankArenas::Allocate({&plan}, 0, options).status().message(),
            "allocating 420 bytes of tier device for rank 0: no device memory");
}

TEST(BuffersTest, AnArenaLargerThanTheMachineIsAnErrorWithTierAndBytes) {
  Plan plan = SmallPlan("train", 100);
  plan.rank_plans[0].arena_bytes[0] = int64_t{1} << 60;
  const absl::Status status = RankArenas::Allocate({&plan}, 0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("allocating 1152921504606846976 bytes of tier device for rank 0"));
}

TEST(GroupsTest, GroupsAreBlocksOfConsecutiveRanks) {
  GraphBuilder builder("g");
  builder.SetGroup("data", 4);
  builder.SetGroup("tensor", 2);
  const Graph graph = *std::move(builder).Build();
  EXPECT_THAT(GroupMembers(graph, "data", 2), testing::ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(GroupMembers(graph, "tensor", 3), testing::ElementsAre(2, 3));
  EXPECT_THAT(GroupMembers(graph, "", 3), testing::ElementsAre(3));
  EXPECT_EQ(IndexInGroup(graph, "tensor", 3), 1);
}

}  // namespace
}  // namespace millrace
