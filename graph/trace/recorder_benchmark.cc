// What an instrument costs in the thread it watches: a time stamp and a record. Aim: 50 ns.
// 2-core AMD EPYC virtual machine, 2026-11-21: 11.8 ns, of it the record 1.5.
#include <benchmark/benchmark.h>

#include "graph/trace/recorder.h"

namespace millrace {
namespace {

void BM_StampAndRecord(benchmark::State& state) {
  TraceRecorder recorder;
  SpanRing* ring = recorder.NewRing(0);
  int64_t last = Ticks();
  for (auto _ : state) {
    const int64_t now = Ticks();
    ring->Add(1, last, now);
    last = now;
  }
}
BENCHMARK(BM_StampAndRecord);

void BM_RecordOnly(benchmark::State& state) {
  TraceRecorder recorder;
  SpanRing* ring = recorder.NewRing(0);
  int64_t now = 0;
  for (auto _ : state) {
    ring->Add(1, now, now + 1);
    benchmark::DoNotOptimize(++now);
  }
}
BENCHMARK(BM_RecordOnly);

}  // namespace
}  // namespace millrace
