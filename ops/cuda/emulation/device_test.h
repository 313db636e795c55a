// For tests of kernels that run emulated in the default build, and on a device where they are built with
// MILLRACE_CUDA_DEVICE: there the same tests are skipped when no device is present.
//
//   ShuffleThreads(seed);       // emulated: emulation::SetOrder; on a device threads have an order of their own
#ifndef MILLRACE_OPS_CUDA_EMULATION_DEVICE_TEST_H_
#define MILLRACE_OPS_CUDA_EMULATION_DEVICE_TEST_H_

#include <cstdint>

#include "gtest/gtest.h"
#include "ops/cuda/emulation/device_array.h"

#if defined(MILLRACE_CUDA_DEVICE)

namespace millrace {

inline void ShuffleThreads(uint64_t) {}

class NeedsDevice : public testing::Environment {
 public:
  void SetUp() override {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) GTEST_SKIP() << "no CUDA device";
  }
};
inline testing::Environment* const needs_device =
    testing::AddGlobalTestEnvironment(new NeedsDevice);

}  // namespace millrace

#else

#include "ops/cuda/emulation/cuda_on_cpu.h"

namespace millrace {

inline void ShuffleThreads(uint64_t seed) { emulation::SetOrder(seed); }

}  // namespace millrace

#endif

#endif  // MILLRACE_OPS_CUDA_EMULATION_DEVICE_TEST_H_
