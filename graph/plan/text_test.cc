// What is printed of a small plan, and that it can be read back.
#include "graph/plan/text.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "graph/plan/testing/small_plan.h"

namespace millrace {
namespace {

using ::testing::HasSubstr;

Plan Small() {
  auto plan = SmallPlan();
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? *std::move(plan) : Plan();
}

TEST(PlanTextTest, EveryNodeStandsOnALineWithItsTimeAndReason) {
  const std::string text = PlanText(Small());
  EXPECT_THAT(text, HasSubstr(R"(
  lane {
    name: "comm:data" kind: "comm"
    run { start: 0.002000000 seconds: 0.001000000 node: "all_gather/bucket_0.done" reason: "reason of all_gather/bucket_0.done" }
  }
)"));
  EXPECT_THAT(text, HasSubstr(R"(
    run { start: 0.003000000 seconds: 0.001000000 node: "forward/a/0"               reason: "reason of forward/a/0" }
)"));
}

TEST(PlanTextTest, MemoryCreditsAndEdgesAreNamed) {
  const std::string text = PlanText(Small());
  for (const char* line : {
           R"(name: "small")",
           R"(hash: "0123")",
           R"(rank: [0, 1])",
           R"(budget { device: 8192 pinned: 0 host: 0 storage: 0 })",
           R"(at_peak { tier: "device" what: "saved/a/0" bytes: 400 })",
           R"(name: "prefetch" limit: 1 unit: "buckets")",
           R"(holder { take: "all_gather/bucket_0.start" give: "backward/a/0" amount: 1 })",
           R"(placement { buffer: "param/bucket_0" tier: "device" offset: 64 bytes: 128 )"
           R"(kind: "parameter" persistent: true })",
           R"(kind: "hazard")",
           R"(edge { from: "all_gather/bucket_0.start" to: "sgd/bucket_0" })",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(PlanTextTest, TheTextReadsBackAsThePlan) {
  Plan plan = Small();
  plan.rank_plans[0].reason[0] = "quotes \" and\nlines, größer";
  plan.separate_memory = true;
  PlanDef read;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(PlanText(plan), &read));
  PlanDef made = ToProto(plan);
  // Times are rounded in the text.
  for (PlanDef* def : {&read, &made}) {
    for (LaneDef& lane : *def->mutable_rank_plan(0)->mutable_lane()) {
      for (RunDef& run : *lane.mutable_run()) {
        EXPECT_GE(run.seconds(), 0.0009);
        run.clear_start();
        run.clear_seconds();
      }
    }
  }
  EXPECT_EQ(read.SerializeAsString(), made.SerializeAsString());
}

TEST(PlanTextTest, BuffersThatTheRankDoesNotHaveAreLeftOut) {
  Plan plan = Small();
  plan.rank_plans[0].offset[1] = -1;
  EXPECT_THAT(PlanText(plan), testing::Not(HasSubstr("buffer: \"param/bucket_0\"")));
}

TEST(PlanTextTest, APlanWithoutPredictionsAndWithStrangeIdsStillPrints) {
  Plan plan = Small();
  plan.rank_plans[0].seconds.clear();
  plan.rank_plans[0].start_time.clear();
  plan.rank_plans[0].reason.clear();
  plan.rank_plans[0].lanes[1].order = {99, -1};
  const std::string text = PlanText(plan);
  EXPECT_THAT(text, HasSubstr("node: \"?99\""));
  EXPECT_THAT(text, HasSubstr("node: \"?-1\""));
}

TEST(PlanJsonTest, NumbersAreNumbersAndFieldsHaveTheirProtoNames) {
  const auto text = PlanJson(Small());
  ASSERT_TRUE(text.ok()) << text.status();
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  ASSERT_FALSE(json.is_discarded()) << *text;
  EXPECT_EQ(json["world_size"], 2);
  EXPECT_EQ(json["budget"]["device"], 8192);
  const auto& rank_plan = json["rank_plan"][0];
  EXPECT_EQ(rank_plan["rank"], nlohmann::json({0, 1}));
  EXPECT_TRUE(rank_plan["placement"][0]["bytes"].is_number_integer());
  EXPECT_EQ(rank_plan["placement"][1]["persistent"], true);
  EXPECT_EQ(rank_plan["lane"][0]["run"][2]["node"], "forward/a/0");
  EXPECT_EQ(rank_plan["lane"][0]["run"][2]["reason"], "reason of forward/a/0");
  EXPECT_EQ(rank_plan["lane"][0]["run"][2]["start"], 0.003);
  EXPECT_EQ(rank_plan["edges"][0]["kind"], "data");
}

TEST(PlanJsonTest, IdsThatTheGraphDoesNotHaveAreAnError) {
  Plan plan = Small();
  plan.rank_plans[0].edges[2].to = 8;
  EXPECT_EQ(PlanJson(plan).status(),
            absl::InvalidArgumentError("rank plan 0: an edge names node 8, expected 0 to 7"));
}

TEST(PlanJsonTest, BytesThatAreNoTextAndInfinitiesDoNotBreakTheJson) {
  Plan plan = Small();
  plan.name = "\xff";
  plan.rank_plans[0].seconds[0] = std::numeric_limits<double>::infinity();
  const auto text = PlanJson(plan);
  ASSERT_TRUE(text.ok()) << text.status();
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  ASSERT_FALSE(json.is_discarded());
  EXPECT_TRUE(json["rank_plan"][0]["lane"][0]["run"][0]["seconds"].is_null());
}

}  // namespace
}  // namespace millrace
