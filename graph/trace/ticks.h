// The cheapest time stamp of the machine, for instruments that stay on: the processor's invariant time
// stamp counter (11 ns on a 2-core AMD EPYC VM, against 30 ns for steady_clock). Ticks mean nothing by
// themselves; a TickScale turns them into the nanoseconds of steady_clock afterwards, off the hot path.
//
//   TickScale scale;                        // notes both clocks
//   int64_t begin = Ticks(); Work(); int64_t end = Ticks();
//   scale.Refresh();                        // notes both again: the rate is known now
//   int64_t ns = scale.Nanoseconds(begin);
//
// Machines without such a counter use steady_clock itself.
#ifndef MILLRACE_GRAPH_TRACE_TICKS_H_
#define MILLRACE_GRAPH_TRACE_TICKS_H_

#include <cstdint>

#include "graph/trace/clock.h"
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace millrace {

inline int64_t Ticks() {
#if defined(__x86_64__)
  return static_cast<int64_t>(__rdtsc());
#else
  return Clock::Real()->Nanoseconds();
#endif
}

// Thread-compatible.
class TickScale {
 public:
  TickScale() : ticks0_(Ticks()), ns0_(Clock::Real()->Nanoseconds()) {}
  // Measures the rate since construction. Waits until 2 ms have passed since then: a rate from a
  // shorter time is worth nothing.
  void Refresh();
  int64_t Nanoseconds(int64_t ticks) const {
    return ns0_ + static_cast<int64_t>(static_cast<double>(ticks - ticks0_) * ns_per_tick_);
  }

 private:
  int64_t ticks0_;
  int64_t ns0_;
  double ns_per_tick_ = 1.0;
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_TRACE_TICKS_H_
