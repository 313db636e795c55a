// What a shared library for LibTorch on CUDA needs to compile and link: its streams and its caching
// allocator, NVTX, and NCCL's types. Linked with every symbol resolved; nothing here is called by a
// machine without a GPU.

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>
#include <nccl.h>
#include <nvtx3/nvToolsExt.h>

#include <cstdint>

static_assert(NCCL_MAJOR == 2, "the table of NCCL's functions is written for version 2");

// The bytes that LibTorch's allocator holds for the device of the current stream.
extern "C" int64_t MillraceSmokeReservedBytes() {
  nvtxRangePushA("reserved bytes");
  const c10::DeviceIndex device = c10::cuda::getCurrentCUDAStream().device_index();
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(device);
  nvtxRangePop();
  return stats.reserved_bytes[0].current;
}
