// Instruments that are always on: every thread that runs nodes owns a ring of fixed size and writes one
// record of 16 bytes per node (about 10 ns with the time stamp; recorder_benchmark.cc). No lock, no
// allocation, no system call on that path; names, lanes and waiting times are worked out in Collect().
//
//   TraceRecorder recorder;                        // 32768 spans per thread: 512 KiB
//   SpanRing* ring = recorder.NewRing(rank);       // once per thread
//   recorder.BeginStep(7);
//   ring->Add(node, begin, Ticks());               // in the thread
//   recorder.EndStep();                            // all threads have finished the step
//   Trace trace = recorder.Collect(plan, "digits_vit");
//
// Thread-safety: Add by the ring's owner only; NewRing at any time; BeginStep, EndStep, Collect and Clear by
// one thread while no owner writes (between steps).
#ifndef MILLRACE_GRAPH_TRACE_RECORDER_H_
#define MILLRACE_GRAPH_TRACE_RECORDER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "graph/trace/ticks.h"
#include "graph/trace/trace.h"

namespace millrace {

class SpanRing {
 public:
  // `capacity` is rounded up to a power of two.
  SpanRing(int rank, int64_t capacity);

  // Begin and end in Ticks().
  void Add(NodeId node, int64_t begin, int64_t end) {
    Record& r = records_[count_++ & mask_];
    r.end = end;
    r.duration = static_cast<float>(end - begin);
    r.node = node;
  }
  int rank() const { return rank_; }

 private:
  friend class TraceRecorder;
  struct Record {  // small: what it takes of the cache is missed by the node that runs next
    int64_t end;
    float duration;  // exact up to 2^24 ticks (7 ms), to 6e-8 of itself above
    NodeId node;
  };
  const int rank_;
  uint64_t mask_;
  uint64_t count_ = 0;
  std::unique_ptr<Record[]> records_;
};

class TraceRecorder {
 public:
  explicit TraceRecorder(int64_t spans_per_thread = 1 << 15) : capacity_(spans_per_thread) {}

  SpanRing* NewRing(int rank);
  void BeginStep(int64_t step);
  void EndStep();

  // The spans still in the rings, of all whole steps, with lanes and waiting times filled in.
  // Several plans (training and evaluation) need a recorder each.
  Trace Collect(const Plan& plan, std::string title);
  void Clear();

 private:
  struct Step {
    int64_t step = 0;
    int64_t begin = 0;  // ticks
    int64_t end = 0;
    std::vector<uint64_t> ring_begin;  // count of every ring when the step began
    std::vector<uint64_t> ring_end;
  };
  std::vector<uint64_t> Counts();

  const int64_t capacity_;
  TickScale scale_;
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<SpanRing>> rings_ ABSL_GUARDED_BY(mutex_);
  std::deque<Step> steps_;
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_TRACE_RECORDER_H_
