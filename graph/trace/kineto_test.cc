// What tools that read PyTorch's traces look for in a rank's file.

#include "graph/trace/kineto.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "graph/trace/test_plan.h"

namespace millrace {
namespace {

using nlohmann::json;

std::string Written(const Plan& plan, int rank) {
  Trace t;
  t.plan = &plan;
  t.steps = {{7, 1000, 9000}, {8, 11000, 19000}};
  for (int64_t at : {0, 10000}) {
    for (int r = 0; r < 2; ++r) {
      t.spans.push_back({r, 0, 0, at + 1000, at + 3000, at + 1000});
      t.spans.push_back({r, 0, 1, at + 3000, at + 3123, at + 3000});
      t.spans.push_back({r, 0, 3, at + 3123, at + 5000, at + 3000});
      t.spans.push_back({r, 1, 2, at + 3123, at + 6001, at + 3123});
      t.spans.push_back({r, 0, 4, at + 6500, at + 9000, at + 6001});
    }
  }
  std::ostringstream out;
  WriteKinetoTrace(t, rank, out);
  return out.str();
}

TEST(KinetoTest, TheRankStandsOnALineOfItsOwnWithABlank) {
  const Plan plan = TracePlan();
  EXPECT_NE(
      Written(plan, 1).find(
          "\n\"distributedInfo\": {\"backend\": \"nccl\", \"rank\": 1, \"world_size\": 2},\n"),
      std::string::npos);
}

TEST(KinetoTest, EveryKernelHasALaunchOfTheSameCorrelation) {
  const Plan plan = TracePlan();
  const json parsed = json::parse(Written(plan, 0));
  std::multiset<int> launched, ran;
  std::map<std::string, int> streams;
  for (const json& e : parsed["traceEvents"]) {
    if (e["cat"] == "cuda_runtime") launched.insert(e["args"]["correlation"].get<int>());
    if (e["cat"] != "kernel") continue;
    ran.insert(e["args"]["correlation"].get<int>());
    streams[e["name"]] = e["args"]["stream"];
    EXPECT_EQ(e["pid"], 0);
  }
  EXPECT_EQ(ran.size(), 8u);  // 4 a step: the start half is a launch only
  EXPECT_EQ(launched, ran);
  EXPECT_EQ(streams,
            (std::map<std::string, int>{
                {"a", 7}, {"b", 7}, {"c", 7}, {"ncclKernel_AllGather_RING_LL_Sum_int8_t", 20}}));
}

TEST(KinetoTest, StepsCoverTheLaunchesOnTheCpuThread) {
  const Plan plan = TracePlan();
  const json parsed = json::parse(Written(plan, 1));
  std::map<std::string, double> begin;
  for (const json& e : parsed["traceEvents"]) {
    if (e["cat"] == "user_annotation") begin[e["name"]] = e["ts"];
  }
  EXPECT_EQ(begin, (std::map<std::string, double>{{"ProfilerStep#7", 0}, {"ProfilerStep#8", 10}}));
}

}  // namespace
}  // namespace millrace
