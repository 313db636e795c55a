// Collectives of the ranks of one process, held against what copying the same bytes costs.
//
// 2026-11-21, 2-core AMD EPYC VM (L3 32 MiB) with other work on it, 64 MiB per rank, f32 unless
// said. GB/s counts bytes read and written by all ranks. The bound: as many threads as ranks memcpy
// the same number of bytes, in turns with the calls, so the ratio holds although the rates of the
// machine vary threefold with its load. memcpy does not write around the caches at this size;
// `stream` is a copy that does, the bound above the bound.
//
//   ranks                            2: GB/s  of memcpy  of stream    4: GB/s  of memcpy  of stream
//   all_gather                          12.8       1.54       1.01       27.7       1.52       1.09
//   all_gather in place                 32.7       1.46       1.00       34.6       1.46       1.01
//   reduce_scatter                      28.2       1.15       0.83       23.7       0.97       0.71
//   reduce_scatter in place             30.8       1.44       0.98       29.6       1.21       0.84
//   reduce_scatter bf16                 26.0       1.05       0.66       27.6       1.10       0.75
//   all_reduce                          18.9       1.18       0.75       19.7       1.15       0.76
//   all_reduce in place                 25.7       1.84       1.03       26.3       1.68       1.05
//   all_reduce bf16                      9.6       1.17       0.67       13.2       1.32       0.85
//   all_reduce f16                      11.6       1.05       0.75       13.3       1.28       0.94
//
// A small call of two members, both started by one thread: 0.43-0.66 us at once, 1.08
// us behind MakeChecked, 43-78 us when it has to wake the workers. Aim: 0.7 of memcpy.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "benchmark/benchmark.h"
#include "dist/checked.h"
#include "dist/in_process.h"
#include "dist/kernels.h"

namespace millrace {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double Median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + x.size() / 2, x.end());
  return x[x.size() / 2];
}

// Counts down from any thread, waited for by one.
class Countdown {
 public:
  void Reset(int n) { left_ = n; }
  void Down() {
    std::lock_guard<std::mutex> lock(mu_);
    if (--left_ == 0) zero_.notify_one();
  }
  void Wait() {
    std::unique_lock<std::mutex> lock(mu_);
    zero_.wait(lock, [this] { return left_ == 0; });
  }

 private:
  std::mutex mu_;
  std::condition_variable zero_;
  int left_ = 0;
};

// `ranks` threads that each copy their own buffers, all at once: what the machine can do. `stream`
// writes around the caches, which memcpy does not at this size: the higher bound.
double CopySeconds(std::vector<std::vector<char>>& from, std::vector<std::vector<char>>& to,
                   int64_t bytes, bool stream) {
  const Clock::time_point begin = Clock::now();
  std::vector<std::thread> threads;
  for (size_t r = 0; r < from.size(); ++r) {
    threads.emplace_back([&, r] {
      if (stream) {
        CopyBytes(to[r].data(), from[r].data(), bytes, Store::kStream);
      } else {
        std::memcpy(to[r].data(), from[r].data(), bytes);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  return Seconds(begin);
}

void BM_Collective(benchmark::State& state, CollectiveKind kind, DType dtype, bool in_place) {
  const int ranks = static_cast<int>(state.range(0));
  const int64_t bytes = state.range(1) << 10;  // the larger of a rank's two buffers
  auto members = *InProcessGroup::Create(ranks);
  std::vector<std::vector<char>> send(ranks, std::vector<char>(bytes)), recv = send;
  std::vector<Collective> calls(ranks);
  double moved = 0;  // bytes read and written, per rank
  for (int r = 0; r < ranks; ++r) {
    Collective& c = calls[r];
    const bool sliced = kind != CollectiveKind::kAllReduce;
    const int64_t part = bytes / ranks;
    c.kind = kind;
    c.dtype = dtype;
    c.count = (sliced ? part : bytes) / SizeOf(dtype);
    c.send = send[r].data();
    c.recv = in_place ? send[r].data() : recv[r].data();
    if (in_place && kind == CollectiveKind::kAllGather) c.send = send[r].data() + part * r;
    if (in_place && kind == CollectiveKind::kReduceScatter) c.recv = send[r].data() + part * r;
    moved = 2.0 * bytes;
    if (kind == CollectiveKind::kAllGather && in_place) moved = 2.0 * (bytes - part);
    if (kind == CollectiveKind::kReduceScatter) moved = 1.0 * (bytes + part);
  }
  Countdown countdown;
  std::vector<double> times, copies, streams;
  for (auto _ : state) {
    countdown.Reset(ranks);
    const Clock::time_point begin = Clock::now();
    for (int r = 0; r < ranks; ++r) {
      members[r]->Start(calls[r], [&](const absl::Status&) { countdown.Down(); });
    }
    countdown.Wait();
    times.push_back(Seconds(begin));
    state.SetIterationTime(times.back());
    // In turns with the call, so that both see the same noise.
    copies.push_back(CopySeconds(send, recv, static_cast<int64_t>(moved / 2), false));
    streams.push_back(CopySeconds(send, recv, static_cast<int64_t>(moved / 2), true));
  }
  const double rate = moved * ranks / Median(times) * 1e-9;
  const double memcpy_rate = moved * ranks / Median(copies) * 1e-9;
  const double stream_rate = moved * ranks / Median(streams) * 1e-9;
  state.counters["moved_GB/s"] = rate;
  state.counters["memcpy_GB/s"] = memcpy_rate;
  state.counters["stream_GB/s"] = stream_rate;
  state.counters["of_memcpy"] = rate / memcpy_rate;
  state.counters["of_stream"] = rate / stream_rate;
  state.counters["result_GB/s"] = static_cast<double>(bytes) / Median(times) * 1e-9;
}
void Sizes(benchmark::internal::Benchmark* b) {
  for (int ranks : {2, 4}) b->Args({ranks, 64 << 10});
  b->ArgNames({"ranks", "KiB"})->UseManualTime()->Unit(benchmark::kMillisecond)->MinTime(0.6);
}
BENCHMARK_CAPTURE(BM_Collective, all_gather, CollectiveKind::kAllGather, DType::kF32, false)
    ->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Collective, all_gather_in_place, CollectiveKind::kAllGather, DType::kF32, true)
    ->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Collective, reduce_scatter, CollectiveKind::kReduceScatter, DType::kF32, false)
    ->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Collective, reduce_scatter_in_place, CollectiveKind::kReduceScatter,
                  DType::kF32, true)
    ->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Collective, reduce_scatter_bf16, CollectiveKind::kReduceScatter, DType::kBF16,
                  false)
    ->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Collective, all_reduce, CollectiveKind::kAllReduce, DType::kF32, false)
    ->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Collective, all_reduce_in_place, CollectiveKind::kAllReduce, DType::kF32, true)
    ->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Collective, all_reduce_bf16, CollectiveKind::kAllReduce, DType::kBF16, false)
    ->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Collective, all_reduce_f16, CollectiveKind::kAllReduce, DType::kF16, false)
    ->Apply(Sizes);

enum class How { kWorkers, kAtOnce, kAtOnceChecked };

// The fixed cost of a call, started by one thread for two members: done by the workers, done at
// once, and at once behind the decorator.
void BM_Latency(benchmark::State& state, How how) {
  InProcessOptions options;
  if (how == How::kWorkers) options.inline_bytes = -1;
  auto members = *InProcessGroup::Create(2, options);
  if (how == How::kAtOnceChecked) {
    auto control = *InProcessGroup::Create(2);
    for (int r = 0; r < 2; ++r)
      members[r] = *MakeChecked(std::move(members[r]), std::move(control[r]));
  }
  std::vector<float> a(256), b(256);
  Collective call;
  call.kind = CollectiveKind::kAllReduce;
  call.count = 256;
  call.name = "reduce_block_7";
  Countdown countdown;
  for (auto _ : state) {
    countdown.Reset(2);
    for (int r = 0; r < 2; ++r) {
      call.send = call.recv = r == 0 ? a.data() : b.data();
      members[r]->Start(call, [&](const absl::Status&) { countdown.Down(); });
    }
    countdown.Wait();
  }
}
BENCHMARK_CAPTURE(BM_Latency, workers, How::kWorkers)->UseRealTime();
BENCHMARK_CAPTURE(BM_Latency, at_once, How::kAtOnce)->UseRealTime();
BENCHMARK_CAPTURE(BM_Latency, at_once_checked, How::kAtOnceChecked)->UseRealTime();

}  // namespace
}  // namespace millrace
