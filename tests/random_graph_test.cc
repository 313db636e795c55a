// A thousand random valid steps: planned by the real planner, with any of its ladders and with or without a budget,
// every one must pass the verifier, and must run to the same bytes as a step planned by the simplest planner there is
// and run by the one-thread reference executor. MILLRACE_SEED=N draws other steps.
#include "tests/random_graph.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "dist/in_process.h"
#include "graph/base/random.h"
#include "graph/plan/planner.h"
#include "graph/runtime/executor.h"
#include "graph/verify/mutation.h"
#include "graph/verify/testing/mutation_tally.h"
#include "graph/verify/testing/plain_planner.h"
#include "graph/verify/verify.h"
#include "gtest/gtest.h"
#include "ops/kernel_registry.h"

namespace millrace {
namespace {

constexpr int kGraphs = 1000;
constexpr int kSteps = 2;

uint64_t BaseSeed() {
  const char* text = std::getenv("MILLRACE_SEED");
  uint64_t base = 1;
  if (text != nullptr) {
    EXPECT_TRUE(absl::SimpleAtoi(text, &base)) << "MILLRACE_SEED=" << text;
  }
  return base;
}

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
      : plan_(plan),
        contexts_(plan.world_size),
        digests_(plan.world_size, std::vector<uint64_t>(plan.graph.nodes().size())) {
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
      if (absl::Status s = executor_->RunStep({step, &digests_}); !s.ok()) return s;
    }
    return absl::OkStatus();
  }

  // The first difference, "" when there is none: in what any node read, and in the bytes of the buffers - of all,
  // where both worlds have the same plan, else of those that persist.
  std::string Difference(const World& other) const {
    const bool all = &plan_ == &other.plan_;
    // A plan may have joined halves of its graph, so things are compared by name; halves read nothing themselves.
    std::map<std::string, size_t> nodes, buffers;
    for (const Node& n : other.plan_.graph.nodes()) nodes.emplace(n.name, nodes.size());
    for (const Buffer& b : other.plan_.graph.buffers()) buffers.emplace(b.name, buffers.size());
    for (int r = 0; r < plan_.world_size; ++r) {
      for (size_t n = 0; n < digests_[r].size(); ++n) {
        const Node& node = plan_.graph.nodes()[n];
        const auto same = nodes.find(node.name);
        if (same == nodes.end() && node.is_collective) continue;
        if (same != nodes.end() && digests_[r][n] == other.digests_[r][same->second]) continue;
        return absl::StrCat("rank ", r, ": what ", node.name, " read");
      }
      for (size_t i = 0; i < plan_.graph.buffers().size(); ++i) {
        const auto b = static_cast<BufferId>(i);
        const Buffer& buffer = plan_.graph.buffers()[i];
        if (!all && !buffer.persistent) continue;
        const auto same = buffers.find(buffer.name);
        if (same == buffers.end()) return absl::StrCat("no buffer ", buffer.name);
        const auto theirs = static_cast<BufferId>(same->second);
        if (std::memcmp(buffers_[r].buffer(b), other.buffers_[r].buffer(theirs), buffer.bytes) !=
            0) {
          return absl::StrCat("rank ", r, ", buffer ", buffer.name);
        }
      }
    }
    return "";
  }

 private:
  const Plan& plan_;
  std::vector<RankContext> contexts_;
  RandomGraphDigests digests_;
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
  const uint64_t base = BaseSeed();
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
    ASSERT_EQ(reference.Difference(truth), "") << "seed " << seed;
    ASSERT_EQ(flow_graph.Difference(reference), "") << "seed " << seed;
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

// The test above could not fail if what goes wrong in memory did not show in the result.
TEST(RandomGraphTest, OverlapsThatTheVerifierRefusesShowInTheResult) {
  int refused = 0, shown = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const RandomGraph drawn = DrawGraph(seed);
    const Plan plain = PlainPlan(drawn.graph, drawn.world_size);
    const auto mutant = Mutate(RandomPlan(drawn, seed), Damage::kOverlappingBuffers, seed);
    if (!mutant.has_value()) continue;
    EXPECT_FALSE(Verify(mutant->plan).ok) << seed << ": " << mutant->what;
    ++refused;
    World truth(plain, nullptr, false), damaged(mutant->plan, nullptr, false);
    ASSERT_EQ(truth.RunSteps(), absl::OkStatus());
    const bool ran = damaged.RunSteps().ok();  // collectives refuse some overlaps themselves
    shown += ran && damaged.Difference(truth).empty() ? 0 : 1;
  }
  std::printf("%d overlaps refused, %d of them change what a node reads\n", refused, shown);
  EXPECT_GT(refused, 100);
  EXPECT_GT(shown, refused / 2);
}

// Groups in groups and slices meet damage that the product's own steps have no place for.
TEST(RandomGraphTest, DamageToRandomStepsIsFound) {
  MutationTally tally;
  for (uint64_t i = 0; i < 200; ++i) {
    const uint64_t seed = BaseSeed() * 200 + i;
    tally.Break(RandomPlan(DrawGraph(seed), seed), absl::StrCat("random step ", seed), seed);
  }
  std::printf("%s", tally.Table().c_str());
  EXPECT_EQ(tally.found(), tally.made());
  EXPECT_GT(tally.made(), 2000);
}

}  // namespace
}  // namespace millrace
