// What a node and an asynchronous pair cost in our executor, instruments on, beside the same edges as plain TBB
// continue_nodes in the same binary (one thread, empty bodies; a pair is completed by another thread). Aim: 1.3
// times the plain ones.
//
// Tenth percentile of the steps, on a 2-core AMD EPYC virtual machine whose cores were shared with two to eight
// other processes, 2026-11-21; best and worst of six runs:
//
//   ns per node, from first begin to last end     plain       ours
//   chain of 1000                                 27.0-29.1   41.8-45.1
//   50 layers x 20, 4 edges per node              57.8-61.4   72-85, once 120
//   the same in a lane (what a plan looks like)   45.0-48.5   41.6-44.7, twice 62-65; implied edges are left out
//   RunStep as a whole: + 25-35 us per step (median 50)       waking the compute thread, then the caller
//
// Ours is the plain cost and about 15 ns: a time stamp (8 ns), the kernel's virtual call and Status, a span.
//
//   us per pair, all threads awake                0.84-2.3    0.37-1.1, 31 when the scheduler put both on one core
//   us from a completion to the next start after 1 ms of quiet, median
//                                                 2900-4000   15-38   plain waits with sched_yield, see rank_engine.h
#include <benchmark/benchmark.h>
#include <tbb/flow_graph.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/runtime/executor.h"
#include "graph/runtime/test_harness.h"

namespace millrace {
namespace {

using tbb::flow::continue_msg;
using RawNode = tbb::flow::continue_node<continue_msg>;

constexpr int kNodes = 1000;
constexpr int kPairs = 200;

class NothingKernel : public Kernel {
 public:
  absl::Status Run(const StepContext&) override { return absl::OkStatus(); }
};

// 50 layers of 20 nodes; a node comes after four of the layer before.
Plan Layered(bool lane_edges) {
  PlanSketch sketch;
  std::vector<NodeId> nodes;
  for (int i = 0; i < kNodes; ++i) {
    std::vector<NodeId> after;
    for (int k = 0; i >= 20 && k < 4; ++k) {
      after.push_back(nodes[i / 20 * 20 - 20 + (i * 7 + k * 5) % 20]);
    }
    nodes.push_back(sketch.Compute(absl::StrCat("n", i), after));
  }
  return std::move(sketch).Build(1, lane_edges);
}

Plan Chain() {
  PlanSketch sketch;
  NodeId last = sketch.Compute("n", {});
  for (int i = 1; i < kNodes; ++i) last = sketch.Compute(absl::StrCat("n", i), {last});
  return std::move(sketch).Build(1);
}

// Pairs one after another: each is waited for.
Plan Pairs() {
  PlanSketch sketch;
  NodeId last = sketch.Compute("n", {});
  for (int i = 0; i < kPairs; ++i) last = sketch.Async(absl::StrCat("a", i), {last});
  return std::move(sketch).Build(1);
}

// Times every iteration by itself: other work on the machine makes single ones long, so the tenth percentile
// tells the cost, the mean the mood of the machine.
class Stopwatch {
 public:
  void Lap(int64_t begin_ns) {
    laps_.push_back(static_cast<double>(Clock::Real()->Nanoseconds() - begin_ns));
  }
  void Report(benchmark::State& state, const char* unit, int per_lap) {
    if (laps_.empty()) return;
    std::sort(laps_.begin(), laps_.end());
    state.counters[absl::StrCat("ns/", unit)] = laps_[laps_.size() / 10] / per_lap;
    state.counters[absl::StrCat("ns/", unit, "_median")] = laps_[laps_.size() / 2] / per_lap;
  }

 private:
  std::vector<double> laps_;
};

// ---- The yardstick: the plan's edges, each once, as TBB nodes with empty bodies.

void RunRaw(benchmark::State& state, const Plan& plan) {
  Stopwatch watch;
  tbb::task_arena arena(1);
  arena.execute([&] {
    tbb::flow::graph graph;
    std::vector<std::unique_ptr<RawNode>> nodes;
    std::vector<bool> root(plan.graph.nodes().size(), true);
    for (size_t i = 0; i < root.size(); ++i) {
      nodes.push_back(std::make_unique<RawNode>(graph, [](const continue_msg&) noexcept {}));
    }
    std::vector<std::pair<NodeId, NodeId>> seen;
    for (const Edge& e : plan.rank_plans[0].edges) {
      if (std::find(seen.begin(), seen.end(), std::make_pair(e.from, e.to)) != seen.end()) continue;
      seen.push_back({e.from, e.to});
      tbb::flow::make_edge(*nodes[e.from], *nodes[e.to]);
      root[e.to] = false;
    }
    for (auto _ : state) {
      const int64_t begin = Clock::Real()->Nanoseconds();
      for (size_t i = 0; i < root.size(); ++i) {
        if (root[i]) nodes[i]->try_put(continue_msg());
      }
      graph.wait_for_all();
      watch.Lap(begin);
    }
  });
  watch.Report(state, "node", kNodes);
}

// ---- Ours, instruments on.

void RunOurs(benchmark::State& state, const Plan& plan) {
  TraceRecorder recorder;
  ExecutorOptions options;
  options.recorder = &recorder;
  RankKernels kernels;
  kernels.by_node.resize(plan.graph.nodes().size());
  for (auto& k : kernels.by_node) k = std::make_unique<NothingKernel>();
  std::vector<RankKernels> all;
  all.push_back(std::move(kernels));
  auto executor = MakeFlowGraphExecutor(plan, std::move(all), options);
  Stopwatch watch;
  for (auto _ : state) {
    const int64_t begin = Clock::Real()->Nanoseconds();
    if (!(*executor)->RunStep({}).ok()) abort();
    watch.Lap(begin);
  }
  watch.Report(state, "node", kNodes);
  // From the first node's begin to the last one's end, without waking the thread and its caller.
  const Trace trace = recorder.Collect(plan, "");
  std::vector<double> inside;
  for (size_t i = 0; i + kNodes <= trace.spans.size(); i += kNodes) {
    inside.push_back(
        static_cast<double>(trace.spans[i + kNodes - 1].end_ns - trace.spans[i].begin_ns) / kNodes);
  }
  std::sort(inside.begin(), inside.end());
  if (!inside.empty()) state.counters["ns/node_inside"] = inside[inside.size() / 10];
}

void BM_ChainRaw(benchmark::State& state) { RunRaw(state, Chain()); }
void BM_ChainOurs(benchmark::State& state) { RunOurs(state, Chain()); }
void BM_LayeredRaw(benchmark::State& state) { RunRaw(state, Layered(false)); }
void BM_LayeredOurs(benchmark::State& state) { RunOurs(state, Layered(false)); }
void BM_LayeredInLaneRaw(benchmark::State& state) { RunRaw(state, Layered(true)); }
void BM_LayeredInLaneOurs(benchmark::State& state) { RunOurs(state, Layered(true)); }
BENCHMARK(BM_ChainRaw)->UseRealTime();
BENCHMARK(BM_ChainOurs)->UseRealTime();
BENCHMARK(BM_LayeredRaw)->UseRealTime();
BENCHMARK(BM_LayeredOurs)->UseRealTime();
BENCHMARK(BM_LayeredInLaneRaw)->UseRealTime();
BENCHMARK(BM_LayeredInLaneOurs)->UseRealTime();

// ---- Asynchronous pairs, one after another, completed by another thread: at once, or after a pause in which the
// compute thread falls asleep. Every start notes the time, so that each pair is measured by itself.

class Completer {
 public:
  explicit Completer(std::chrono::microseconds pause)
      : pause_(pause), thread_([this] { Serve(); }) {}
  ~Completer() {
    stop_ = true;
    thread_.join();
  }
  // From the body of a start. One operation is in flight at a time.
  template <typename F>
  void Put(F done) {
    const int64_t now = Clock::Real()->Nanoseconds();
    if (completed_at_ != 0) latency_.push_back(static_cast<double>(now - completed_at_));
    if (put_at_ != 0) period_.push_back(static_cast<double>(now - put_at_));
    put_at_ = now;
    done_ = std::move(done);
    full_.store(true, std::memory_order_release);
  }
  void Report(benchmark::State& state) {
    if (period_.empty()) return;
    std::sort(period_.begin(), period_.end());
    std::sort(latency_.begin(), latency_.end());
    if (pause_.count() == 0) {
      state.counters["ns/pair"] = period_[period_.size() / 10];
      state.counters["ns/pair_median"] = period_[period_.size() / 2];
    }
    state.counters["completion_to_next_start_ns"] = latency_[latency_.size() / 10];
    state.counters["completion_to_next_start_ns_median"] = latency_[latency_.size() / 2];
  }

 private:
  void Serve() {
    while (!stop_.load(std::memory_order_relaxed)) {
      if (!full_.load(std::memory_order_acquire)) continue;
      const std::function<void(absl::Status)> done = std::move(done_);
      full_.store(false, std::memory_order_relaxed);
      if (pause_.count() > 0) std::this_thread::sleep_for(pause_);
      completed_at_ = Clock::Real()->Nanoseconds();
      done(absl::OkStatus());
    }
  }
  const std::chrono::microseconds pause_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> full_{false};
  std::function<void(absl::Status)> done_;
  int64_t put_at_ = 0;
  int64_t completed_at_ = 0;
  std::vector<double> period_;
  std::vector<double> latency_;
  std::thread thread_;
};

class PairKernel : public Kernel {
 public:
  explicit PairKernel(Completer* completer) : completer_(completer) {}
  bool asynchronous() const override { return true; }
  void Start(const StepContext&, std::function<void(absl::Status)> done) override {
    completer_->Put(std::move(done));
  }

 private:
  Completer* completer_;
};

void BM_PairsRaw(benchmark::State& state) {
  Completer completer{std::chrono::microseconds(state.range(0))};
  tbb::task_arena arena(2, 2);
  arena.execute([&] {
    tbb::flow::graph graph;
    std::vector<std::unique_ptr<RawNode>> nodes;
    for (int i = 0; i < kPairs; ++i) {
      nodes.push_back(nullptr);
      nodes.push_back(std::make_unique<RawNode>(graph, 1, [](const continue_msg&) noexcept {}));
      RawNode* done = nodes.back().get();
      nodes[2 * i] = std::make_unique<RawNode>(
          graph, [&graph, &completer, done](const continue_msg&) noexcept {
            graph.reserve_wait();
            completer.Put([&graph, done](const absl::Status&) {
              done->try_put(continue_msg());
              graph.release_wait();
            });
          });
      tbb::flow::make_edge(*nodes[2 * i], *done);
      if (i > 0) tbb::flow::make_edge(*nodes[2 * i - 1], *nodes[2 * i]);
    }
    for (auto _ : state) {
      nodes[0]->try_put(continue_msg());
      graph.wait_for_all();
    }
  });
  completer.Report(state);
}

void BM_PairsOurs(benchmark::State& state) {
  Completer completer{std::chrono::microseconds(state.range(0))};
  const Plan plan = Pairs();
  TraceRecorder recorder;
  ExecutorOptions options;
  options.recorder = &recorder;
  std::vector<RankKernels> kernels(1);
  for (const Node& node : plan.graph.nodes()) {
    if (node.async == AsyncRole::kStart) {
      kernels[0].by_node.push_back(std::make_unique<PairKernel>(&completer));
    } else {
      kernels[0].by_node.push_back(std::make_unique<NothingKernel>());
    }
  }
  auto executor = MakeFlowGraphExecutor(plan, std::move(kernels), options);
  for (auto _ : state) {
    if (!(*executor)->RunStep({}).ok()) abort();
  }
  completer.Report(state);
}
BENCHMARK(BM_PairsRaw)->Arg(0)->Arg(1000)->ArgName("pause_us")->UseRealTime();
BENCHMARK(BM_PairsOurs)->Arg(0)->Arg(1000)->ArgName("pause_us")->UseRealTime();

}  // namespace
}  // namespace millrace
