// A CUDA runtime without a GPU: the functions of libcudart that CudaDevice calls, over threads and host memory. Linked
// into a test it takes the place of the library's, so that CudaDevice itself is what is tested.
//
//   FakeCudart::Get().Start({.devices = 2, .seed = 7});      // forgets everything; nothing may be alive
//   ... CudaDevice::Open(0) ...
//   EXPECT_GT(FakeCudart::Get().calls(), 0);                 // it is the fake that runs
//   EXPECT_EQ(FakeCudart::Get().misuse(), "");
//
// Streams are threads that do their work in order. At random they sleep, and an event that has been reached is not
// admitted at once. Device memory comes filled with garbage, not zero.
//
// Faults: the n-th call that can fail, from 1, fails and does nothing (`fail_call`; queries of events are counted apart,
// `fail_query`: there are as many as the scheduler likes); the n-th piece of work of a stream (copy, host function)
// breaks its device, for good (`fail_work`).
//
// Misuse is noted, the first one is told: what CUDA would refuse, and what it would let pass but means a mistake - waiting
// for an event that was never recorded, a copy in a stream between memory that is neither pinned nor the device's,
// allocating or waiting while a step runs (StepBegins, StepEnds), things that are used after they were destroyed.
#ifndef MILLRACE_OPS_CUDA_FAKE_CUDART_H_
#define MILLRACE_OPS_CUDA_FAKE_CUDART_H_

#include <cstdint>
#include <string>

namespace millrace {

struct FakeCudartOptions {
  int devices = 1;  // 0: as on a machine without a GPU
  uint64_t seed = 0;
  bool adversarial = true;  // false: no naps, events tell the truth
  int64_t fail_call = 0, fail_query = 0, fail_work = 0;
  int64_t memory_bytes = int64_t{1} << 30;  // of a device
};

class FakeCudart {
 public:
  static FakeCudart& Get();
  void Start(const FakeCudartOptions& options);

  // Between these nothing may be allocated or waited for.
  void StepBegins();
  void StepEnds();

  int64_t calls() const;    // that fail_call counts
  int64_t queries() const;  // of events
  int64_t work() const;     // copies and host functions that streams have begun
  int64_t allocations()
      const;              // cudaMalloc, cudaHostAlloc and their frees, streams, events, graphs made
  int64_t waits() const;  // the host waited for the device
  int64_t launches() const;  // of graphs
  int64_t alive() const;     // allocations, streams, events and graphs that nobody has destroyed
  int priority(void* stream) const;
  std::string misuse() const;  // "": none
};

}  // namespace millrace

#endif  // MILLRACE_OPS_CUDA_FAKE_CUDART_H_
