// A thousand random valid steps: planned by the real planner, with any of its ladders and with or without a budget,
// every one must pass the verifier, and must run to the same bytes as a step planned by the simplest planner there is
// and run by the one-thread reference executor. MILLRACE_SEED=N draws other steps.
#include "tests/random_graph.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "dist/in_process.h"
#include "graph/base/random.h"
#include "graph/plan/planner.h"
#include "graph/runtime/executor.h"
#include "graph/verify/testing/plain_planner.h"
#include "graph/verify/verify.h"
#include "gtest/gtest.h"
#include "ops/kernel_registry.h"

namespace millrace {
namespace {

constexpr int kGraphs = 1000;
constexpr int kSteps = 2;

template <typename T>
T OrFail(absl::StatusOr<T> result) {
  EXPECT_TRUE(result.ok()) << result.status();
  return *std::move(result);
}

// All ranks of a plan in this process.
class World {
 public:
  // Without threads: the reference executor.
  World(const Plan& plan, std::shared_ptr<ComputeThreads> threads, bool threaded_groups)
      : plan_(plan), contexts_(plan.world_size) {
    for (const auto& [name, size] : plan.graph.groups()) {
      for (int first = 0; first < plan.world_size; first += size) {
        InProcessOptions options;
        options.name = name;
        options.execution = threaded_groups ? InProcessOptions::Execution::kThreaded
                                            : InProcessOptions::Execution::kInline;
        groups_.push_back(OrFail(InProcessGroup::Create(size, options)));
        for (int r = 0; r < size; ++r) contexts_[first + r].groups[name] = groups_.back()[r].get();
      }
    }
    std::vector<RankKernels> kernels;
    for (int r = 0; r < plan.world_size; ++r) {
      contexts_[r].rank = r;
      buffers_.push_back(OrFail(RankBuffers::Create(plan, r)));
      kernels.push_back(OrFail(MakeKernels(plan, r, buffers_[r], RegistryFactory(&contexts_[r]))));
    }
    ExecutorOptions options;
    options.threads = threads;
    options.abort_communication = [this](const absl::Status& why) {
      for (auto& members : groups_) members[0]->Abort(why);
    };
    executor_ =
        OrFail(threads != nullptr ? MakeFlowGraphExecutor(plan, std::move(kernels), options)
                                  : MakeReferenceExecutor(plan, std::move(kernels), options));
  }

  absl::Status RunSteps() {
    for (int64_t step = 0; step < kSteps; ++step) {
      if (absl::Status s = executor_->RunStep({step}); !s.ok()) return s;
    }
    return absl::OkStatus();
  }

  // The first difference, "" when there is none: of the persistent buffers, or of all arenas.
  std::string Difference(const World& other, bool persistent_only) const {
    for (int r = 0; r < plan_.world_size; ++r) {
      for (size_t i = 0; i < plan_.graph.buffers().size(); ++i) {
        const auto b = static_cast<BufferId>(i);
        const Buffer& buffer = plan_.graph.buffers()[i];
        if (persistent_only && !buffer.persistent) continue;
        if (std::memcmp(buffers_[r].buffer(b), other.buffers_[r].buffer(b), buffer.bytes) != 0) {
          return absl::StrCat("rank ", r, ", buffer ", buffer.name);
        }
      }
    }
    return "";
  }

 private:
  const Plan& plan_;
  std::vector<RankContext> contexts_;
  std::vector<std::vector<std::unique_ptr<Communicator>>> groups_;
  std::vector<RankBuffers> buffers_;
  std::unique_ptr<Executor> executor_;
};

struct Totals {
  int64_t nodes = 0, collectives = 0, pairs = 0, in_place = 0, control = 0, two_groups = 0;
  int64_t buffer_bytes = 0, arena_bytes = 0, budgets = 0, ranks[5] = {};

  void Add(const RandomGraph& drawn, const Plan& plan) {
    in_place += drawn.in_place;
    ++ranks[plan.world_size];
    two_groups += plan.graph.groups().size() > 1 ? 1 : 0;
    budgets += plan.budget_bytes[0] > 0 ? 1 : 0;
    for (const Node& n : plan.graph.nodes()) {
      nodes += n.async == AsyncRole::kDone ? 0 : 1;
      collectives += n.is_collective && n.async != AsyncRole::kDone ? 1 : 0;
      pairs += n.async == AsyncRole::kStart ? 1 : 0;
      control += static_cast<int64_t>(n.control.size());
    }
    for (const Buffer& b : plan.graph.buffers()) buffer_bytes += b.bytes;
    arena_bytes += plan.rank_plans[0].arena_bytes[0];
  }
};

// Any ladder; every other time with a budget between 70 % and all of what the plan takes without one.
Plan RandomPlan(const RandomGraph& drawn, uint64_t seed) {
  const CounterRng rng(seed, HashString("random_plan"));
  PlanOptions options;
  options.world_size = drawn.world_size;
  const Ladder ladders[] = {Ladder::kCriticalPath, Ladder::kFeedFirst, Ladder::kProgramOrder};
  if (const uint64_t l = rng.Below(0, 4); l < 3) options.ladder = ladders[l];
  Machine machine;
  machine.mutable_device()->set_flops_per_second(rng.Below(1, 2) == 0 ? 1e9 : 1e12);
  Plan plan = OrFail(MakePlan(drawn.graph, machine, options));
  if (rng.Below(2, 2) == 0 && plan.rank_plans[0].arena_bytes[0] > 0) {
    const double share = 0.7 + 0.3 * rng.Uniform(3);
    machine.mutable_device()->set_memory_bytes(
        static_cast<int64_t>(share * static_cast<double>(plan.rank_plans[0].arena_bytes[0])));
    absl::StatusOr<Plan> tight = MakePlan(drawn.graph, machine, options);
    if (tight.ok()) plan = *std::move(tight);
  }
  return plan;
}

TEST(RandomGraphTest, ThousandStepsAreAcceptedAndRunToTheReferencesBytes) {
  uint64_t base = 1;
  if (const char* text = std::getenv("MILLRACE_SEED")) ASSERT_TRUE(absl::SimpleAtoi(text, &base));
  const auto threads = OrFail(ComputeThreads::Create({0, 1, 2, 3}, nullptr));
  Totals totals;
  for (uint64_t i = 0; i < kGraphs; ++i) {
    const uint64_t seed = base * kGraphs + i;
    const RandomGraph drawn = DrawGraph(seed);
    const Plan plan = RandomPlan(drawn, seed), plain = PlainPlan(drawn.graph, drawn.world_size);
    const VerifyResult result = Verify(plan), of_plain = Verify(plain);
    ASSERT_TRUE(result.ok) << "seed " << seed << "\n" << ToText(result, plan);
    ASSERT_TRUE(of_plain.ok) << "seed " << seed << ", plain\n" << ToText(of_plain, plain);
    totals.Add(drawn, plan);

    World truth(plain, nullptr, false), reference(plan, nullptr, false);
    World flow_graph(plan, threads, /*threaded_groups=*/i % 8 == 0);
    for (World* world : {&truth, &reference, &flow_graph}) {
      ASSERT_EQ(world->RunSteps(), absl::OkStatus()) << "seed " << seed;
    }
    ASSERT_EQ(reference.Difference(truth, /*persistent_only=*/true), "") << "seed " << seed;
    ASSERT_EQ(flow_graph.Difference(reference, /*persistent_only=*/false), "") << "seed " << seed;
  }
  std::printf(
      "%d random steps on 1, 2, 3, 4 ranks: %lld, %lld, %lld, %lld; %lld with groups in groups, "
      "%lld within a "
      "budget\n%lld nodes, %lld collectives, %lld of them asynchronous, %lld updates in place, "
      "%lld control edges\n"
      "%lld bytes of buffers in %lld bytes of arenas: %.0f %% reused\n",
      kGraphs, static_cast<long long>(totals.ranks[1]), static_cast<long long>(totals.ranks[2]),
      static_cast<long long>(totals.ranks[3]), static_cast<long long>(totals.ranks[4]),
      static_cast<long long>(totals.two_groups), static_cast<long long>(totals.budgets),
      static_cast<long long>(totals.nodes), static_cast<long long>(totals.collectives),
      static_cast<long long>(totals.pairs), static_cast<long long>(totals.in_place),
      static_cast<long long>(totals.control), static_cast<long long>(totals.buffer_bytes),
      static_cast<long long>(totals.arena_bytes),
      100.0 *
          (1 - static_cast<double>(totals.arena_bytes) / static_cast<double>(totals.buffer_bytes)));
  // The steps are not trivial.
  EXPECT_GT(totals.collectives, 5 * kGraphs);
  EXPECT_GT(totals.pairs, 3 * kGraphs);
  EXPECT_GT(totals.in_place, 3 * kGraphs);
  EXPECT_LT(totals.arena_bytes, totals.buffer_bytes * 3 / 4);
}

}  // namespace
}  // namespace millrace
