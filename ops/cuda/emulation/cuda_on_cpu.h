// The words of CUDA that our kernels use, for two compilers: nvcc takes them as they are; any other compiler gets them
// from here, so that the very same .cu runs on the CPU, in tests of machines without a GPU.
//
//   __global__ void Sum(const int* x, int n, int* sum) { ...; MR_SHARED(int, part, 32); __syncthreads(); ... }
//   MR_LAUNCH(Sum, blocks, 256, 0, stream, x, n, sum);
//   if (const char* error = LaunchError()) ...                    // null: issued (emulated: it has run)
//
// The threads of a block are fibers; one runs until it ends or must wait for others. Blocks run one after another.
// emulation::SetOrder(seed) shuffles blocks, the fibers between two barriers, and whom an atomic lets pass, so that
// a missing barrier shows as a wrong result. Found and returned by LaunchError(): threads that end or wait elsewhere
// while others wait at a barrier or for lanes of their warp, lanes that disagree about a mask, shared memory written
// behind an array's end, vector accesses that are not aligned. Shared memory begins as NaNs.
//
// Not emulated: blocks that wait for each other, the memory model (all writes are seen at once), races that the
// shuffled orders do not happen to show, textures, cooperative groups, asynchronous copies, tensor cores, speed.
// Floating point is the CPU's, without contraction: kernels that must give the same bits on a device use __fmul_rn and
// its like. Only what is listed below exists. One launch at a time.
#ifndef MILLRACE_OPS_CUDA_EMULATION_CUDA_ON_CPU_H_
#define MILLRACE_OPS_CUDA_EMULATION_CUDA_ON_CPU_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#define MR_LAUNCH(kernel, grid, block, shared, stream, ...) \
  kernel<<<(grid), (block), (shared), static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
// An array of the block, as a local variable of the kernel.
#define MR_SHARED(type, name, count) __shared__ type name[count]
// The bytes that the launch asked for.
#define MR_DYNAMIC_SHARED(type, name)                          \
  extern __shared__ __align__(16) unsigned char mr_dynamic_[]; \
  type* const name = reinterpret_cast<type*>(mr_dynamic_)

namespace millrace {
inline const char* LaunchError() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
}  // namespace millrace

#else

#include <cmath>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  dim3(unsigned nx, unsigned ny = 1, unsigned nz = 1) : x(nx), y(ny), z(nz) {}
};
using uint3 = dim3;
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
inline uint3 threadIdx, blockIdx;  // of the fiber that runs
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace millrace {
namespace emulation {

// 0: threads and blocks in order. Others: shuffled, the same way for the same seed.
void SetOrder(uint64_t seed);

void RunGrid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread);
// For kernels. All but Shared and Dynamic may switch to other fibers.
void Barrier(int line);
void AtomicPoint();
[[noreturn]] void Fail(const char* why);
void* Shared(const void* id, size_t bytes);
void* Dynamic();
// All lanes of `mask` meet; each gets the value of its `source` (a lane of the mask), and `*ballot` the lanes whose value
// is not 0.
uint64_t Meet(unsigned mask, uint64_t value, unsigned source, unsigned* ballot);
inline unsigned Lane() {
  return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}

template <typename T>
T Shuffle(unsigned mask, T x, unsigned source) {
  static_assert(sizeof(T) <= 8, "");
  uint64_t bits = 0;
  std::memcpy(&bits, &x, sizeof(x));
  bits = Meet(mask, bits, source, nullptr);
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

}  // namespace emulation
const char* LaunchError();
}  // namespace millrace

#define MR_LAUNCH(kernel, grid, block, shared, stream, ...) \
  (static_cast<void>(stream),                               \
   ::millrace::emulation::RunGrid((grid), (block), (shared), [&] { kernel(__VA_ARGS__); }))
#define MR_SHARED(type, name, count) \
  static char name##_id_;            \
  type* const name =                 \
      static_cast<type*>(::millrace::emulation::Shared(&name##_id_, sizeof(type) * (count)))
#define MR_DYNAMIC_SHARED(type, name) \
  type* const name = static_cast<type*>(::millrace::emulation::Dynamic())
#define __syncthreads() ::millrace::emulation::Barrier(__LINE__)

inline void __syncwarp(unsigned mask = 0xffffffffu) {
  ::millrace::emulation::Meet(mask, 0, ::millrace::emulation::Lane(), nullptr);
}
template <typename T>
T __shfl_sync(unsigned mask, T x, int source, int width = 32) {
  const unsigned lane = ::millrace::emulation::Lane(), w = static_cast<unsigned>(width);
  return ::millrace::emulation::Shuffle(mask, x, lane / w * w + static_cast<unsigned>(source) % w);
}
// A lane that would read beyond its part of the warp keeps its own.
template <typename T>
T __shfl_down_sync(unsigned mask, T x, unsigned delta, int width = 32) {
  const unsigned lane = ::millrace::emulation::Lane(), w = static_cast<unsigned>(width);
  return ::millrace::emulation::Shuffle(mask, x, lane % w + delta < w ? lane + delta : lane);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T x, int bits, int width = 32) {
  const unsigned lane = ::millrace::emulation::Lane(), w = static_cast<unsigned>(width),
                 other = lane ^ static_cast<unsigned>(bits);
  return ::millrace::emulation::Shuffle(mask, x, other / w <= lane / w ? other : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  unsigned ballot = 0;
  ::millrace::emulation::Meet(mask, predicate != 0, ::millrace::emulation::Lane(), &ballot);
  return ballot;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) == mask;
}
// Of whole warps.
inline unsigned __reduce_max_sync(unsigned mask, unsigned x) {
  for (int bits = 16; bits > 0; bits /= 2) {
    const unsigned other = __shfl_xor_sync(mask, x, bits);
    x = other > x ? other : x;
  }
  return x;
}

template <typename T>
T atomicAdd(T* x, T y) {
  ::millrace::emulation::AtomicPoint();
  const T old = *x;
  *x = old + y;
  return old;
}
template <typename T>
T atomicOr(T* x, T y) {
  ::millrace::emulation::AtomicPoint();
  const T old = *x;
  *x = old | y;
  return old;
}

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }

#endif

#endif  // MILLRACE_OPS_CUDA_EMULATION_CUDA_ON_CPU_H_
