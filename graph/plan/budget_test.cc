#include "graph/plan/budget.h"

#include <gtest/gtest.h>

#include "graph/lower/lower.h"
#include "graph/lower/testing/fake_model.h"
#include "graph/plan/planner.h"

namespace millrace {
namespace {

TEST(Budget, PlanThatDoesNotFitNamesWhatIsLargestAndWhatWouldHelp) {
  Machine machine;
  machine.set_name("tiny");
  machine.mutable_device()->set_memory_bytes(1000);
  const LowerOptions options{.world_size = 2, .zero_stage = 0};
  auto graph = Lower(MakeFakeModel({.stages = 2, .params = {{100, 10}}}), options);
  ASSERT_TRUE(graph.ok());
  const auto plan = MakePlan(*graph, machine, {.name = "big"});
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kResourceExhausted);
  const std::string text(plan.status().message());
  EXPECT_NE(text.find("planning big on machine 'tiny': rank 0 needs 34"), std::string::npos)
      << text;
  EXPECT_NE(text.find("more than the budget of 1.0 kB (1000 bytes); at the peak:"),
            std::string::npos)
      << text;
  EXPECT_LT(text.find("8.1 kB  exp_avg/bucket_0"), text.find("saved")) << text;
  EXPECT_NE(
      text.find("parallel.zero.stage 1 or higher shards optimizer states (-8.1 kB on 2 ranks)"),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("parallel.zero.stage 3 or higher shards parameters"), std::string::npos);
  const auto unchecked = MakePlan(*graph, machine, {.check_budget = false});
  EXPECT_TRUE(unchecked.ok()) << unchecked.status();
}

}  // namespace
}  // namespace millrace
