// A fault at every node of a small graph, in every way a kernel can fail: the step ends with that node's error
// and rank, nothing is left behind, and the same executor runs the next step as if nothing had been.

#include <dirent.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "graph/runtime/executor.h"
#include "graph/runtime/test_harness.h"

namespace millrace {
namespace {

using testing::AllOf;
using testing::HasSubstr;

int ThreadCount() {
  int count = 0;
  DIR* tasks = opendir("/proc/self/task");
  while (const dirent* entry = readdir(tasks)) count += entry->d_name[0] != '.';
  closedir(tasks);
  return count;
}

// Two ranks; a split and an unsplit collective, joins and independent work.
Plan SmallPlan() {
  PlanSketch sketch;
  const NodeId a = sketch.Compute("a", {});
  const NodeId gather = sketch.Async("gather", {a});
  const NodeId b = sketch.Compute("b", {a});
  const NodeId c = sketch.Compute("c", {gather, b});
  const NodeId scatter = sketch.Async("scatter", {c});
  const NodeId norm = sketch.Blocking("norm", {b});
  const NodeId d = sketch.Compute("d", {norm, c});
  sketch.Compute("e", {scatter, d});
  return std::move(sketch).Build(2);
}

std::unique_ptr<Executor> Make(bool reference, const Plan& plan, Harness& harness,
                               const ExecutorOptions& options) {
  auto executor = reference ? MakeReferenceExecutor(plan, harness.Kernels(), options)
                            : MakeFlowGraphExecutor(plan, harness.Kernels(), options);
  EXPECT_TRUE(executor.ok()) << executor.status();
  return *std::move(executor);
}

struct Case {
  bool reference;
  bool outside;  // who completes collectives
};

class ExecutorFaultTest : public testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(Both, ExecutorFaultTest,
                         testing::Values(Case{false, false}, Case{false, true}, Case{true, false},
                                         Case{true, true}));

TEST_P(ExecutorFaultTest, AFaultAtEveryNodeEndsTheStepWithItsErrorAndTheNextStepSucceeds) {
  const Plan plan = SmallPlan();
  Harness expected(plan);
  auto fault_free = Make(true, plan, expected, expected.Options());
  Harness harness(plan, GetParam().outside);
  auto executor = Make(GetParam().reference, plan, harness, harness.Options());
  const int kernels = Harness::live_kernels();
  const int threads = ThreadCount();
  int64_t step = 0;
  int faults = 0;
  for (int rank = 0; rank < 2; ++rank) {
    for (NodeId n = 0; n < static_cast<NodeId>(plan.graph.nodes().size()); ++n) {
      const Node& node = plan.graph.nodes()[n];
      if (node.async == AsyncRole::kDone) continue;  // kLateDone of its start is its fault
      for (const Fault fault : {Fault::kStatus, Fault::kThrow, Fault::kThrowUnknown,
                                Fault::kDoneThenThrow, Fault::kDoneTwice, Fault::kLateDone}) {
        const bool of_start = fault == Fault::kDoneThenThrow || fault == Fault::kDoneTwice ||
                              fault == Fault::kLateDone;
        if (of_start && !node.is_collective) continue;
        SCOPED_TRACE(
            absl::StrCat(node.name, " on rank ", rank, ", fault ", static_cast<int>(fault)));
        harness.SetFault(rank, n, fault);
        harness.aborts = 0;
        const absl::Status status = executor->RunStep({++step});
        ASSERT_FALSE(status.ok());
        const bool completion = node.async == AsyncRole::kStart &&
                                (fault == Fault::kStatus || of_start) &&
                                fault != Fault::kDoneThenThrow;
        const std::string name = completion ? plan.graph.nodes()[node.partner].name : node.name;
        EXPECT_TRUE(absl::StartsWith(status.message(), absl::StrCat("node ", name, " (")))
            << status;
        EXPECT_THAT(std::string(status.message()),
                    AllOf(HasSubstr(absl::StrCat(" on rank ", rank, ", ")),
                          HasSubstr(fault == Fault::kThrowUnknown ? "exception of unknown type"
                                                                  : "the fault")));
        EXPECT_EQ(harness.aborts, 1);
        EXPECT_TRUE(executor->at_rest());
        ++faults;

        harness.ClearFaults();
        harness.group().Rebuild();
        ++step;
        ASSERT_EQ(executor->RunStep({step}), absl::OkStatus());
        ASSERT_EQ(fault_free->RunStep({step}), absl::OkStatus());
        ASSERT_EQ(harness.BrokenEdge(), "");
        ASSERT_EQ(harness.Numbers(), expected.Numbers());
        ASSERT_EQ(Harness::live_kernels(), kernels);
        ASSERT_EQ(ThreadCount(), threads);
      }
    }
  }
  EXPECT_EQ(faults, 2 * (5 * 3 + 3 * 6));
}

TEST_P(ExecutorFaultTest, NothingIsLeftWhenAnExecutorIsDestroyedAfterAFailure) {
  const Plan plan = SmallPlan();
  const int kernels = Harness::live_kernels();
  Harness harness(plan, GetParam().outside);
  const int threads = ThreadCount();
  for (int i = 0; i < 20; ++i) {
    auto executor = Make(GetParam().reference, plan, harness, harness.Options());
    harness.SetFault(i % 2, plan.graph.FindNode("c"), Fault::kThrow);
    EXPECT_FALSE(executor->RunStep({i}).ok());
    harness.ClearFaults();
    harness.group().Rebuild();
  }
  EXPECT_EQ(Harness::live_kernels(), kernels);
  EXPECT_EQ(ThreadCount(), threads);
}

TEST_P(ExecutorFaultTest, OfTwoFaultsTheFirstIsReported) {
  const Plan plan = SmallPlan();
  Harness harness(plan, GetParam().outside);
  auto executor = Make(GetParam().reference, plan, harness, harness.Options());
  harness.SetFault(0, plan.graph.FindNode("a"), Fault::kStatus);
  harness.SetFault(0, plan.graph.FindNode("e"), Fault::kStatus);
  EXPECT_EQ(executor->RunStep({0}).message(), "node a (fake) on rank 0, run: the fault");
  EXPECT_EQ(harness.began(0, plan.graph.FindNode("e")), 0u);
}

// Faults at random places of random graphs, many times over: races between a failing rank, an abort and
// completions from outside.
TEST_P(ExecutorFaultTest, FaultsAtRandomPlacesOfRandomGraphs) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const Plan plan = RandomPlan(seed, 40, 3, true);
    Harness harness(plan, GetParam().outside);
    auto executor = Make(GetParam().reference, plan, harness, harness.Options());
    for (int i = 0; i < 10; ++i) {
      NodeId n = static_cast<NodeId>((seed * 7 + i * 13) % plan.graph.nodes().size());
      if (plan.graph.nodes()[n].async == AsyncRole::kDone) n = plan.graph.nodes()[n].partner;
      const bool collective = plan.graph.nodes()[n].is_collective;
      harness.SetFault(i % 3, n, collective && i % 2 == 0 ? Fault::kLateDone : Fault::kThrow);
      const absl::Status status = executor->RunStep({2 * i});
      ASSERT_THAT(std::string(status.message()), HasSubstr("the fault"));
      harness.ClearFaults();
      harness.group().Rebuild();
      ASSERT_EQ(executor->RunStep({2 * i + 1}), absl::OkStatus());
      ASSERT_EQ(harness.BrokenEdge(), "");
    }
  }
}

}  // namespace
}  // namespace millrace
