// What kernels rely on, and what the emulation must find in wrong ones.
#include "ops/cuda/emulation/cuda_on_cpu.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using testing::HasSubstr;
using testing::IsNull;

std::string Error() {
  const char* error = LaunchError();
  return error == nullptr ? "" : error;
}

// The sum of each block's part of x, through shared memory and shuffles.
__global__ void BlockSums(const int* x, int n, int* sums, bool barrier) {
  MR_SHARED(int, part, 8);
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  int sum = i < n ? x[i] : 0;
  for (int d = 16; d > 0; d /= 2) sum += __shfl_down_sync(0xffffffffu, sum, d);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  if (barrier) __syncthreads();
  if (threadIdx.x == 0) {
    int total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) total += part[w];
    atomicAdd(sums, total);
  }
}

int RunBlockSums(bool barrier) {
  std::vector<int> x(1000);
  for (int i = 0; i < 1000; ++i) x[i] = i;
  int sum = 0;
  MR_LAUNCH(BlockSums, 4, 256, 0, nullptr, x.data(), 1000, &sum, barrier);
  return sum;
}

TEST(CudaOnCpu, ABlocksThreadsMeetAtBarriersAndInWarps) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    emulation::SetOrder(seed);
    EXPECT_EQ(RunBlockSums(true), 499500);
    EXPECT_THAT(LaunchError(), IsNull());
  }
  emulation::SetOrder(0);
}

TEST(CudaOnCpu, AMissingBarrierShowsInSomeOrder) {
  int wrong = 0;
  for (uint64_t seed = 1; seed < 20; ++seed) {
    emulation::SetOrder(seed);
    wrong += RunBlockSums(false) != 499500;
    EXPECT_EQ(Error(), "");
  }
  emulation::SetOrder(0);
  EXPECT_GT(wrong, 0);
}

__global__ void Wrong(int what, float* out) {
  MR_SHARED(float, few, 4);
  MR_DYNAMIC_SHARED(float, more);
  const unsigned t = threadIdx.x;
  switch (what) {
    case 0:
      if (t == 3) return;
      __syncthreads();
      break;
    case 1:
      if (t < 32) {
        __syncthreads();
      } else {
        __syncthreads();
      }
      break;
    case 2:
      few[4] = 1;
      break;
    case 3:
      more[2] = 1;
      break;
    case 4:
      if (t < 4) __shfl_xor_sync(t == 0 ? 0x3u : 0xfu, t, 1);
      break;
    case 5:
      if (t % 32 != 7) __syncwarp();
      break;
    case 6:
      if (t < 32) __syncwarp(1);
      break;
    default:
      *out = few[0];  // never written
  }
}

TEST(CudaOnCpu, WhatADeviceWouldNotForgiveIsSaid) {
  float out = 0;
  const auto error = [&](int what) {
    MR_LAUNCH(Wrong, 2, 64, 8, nullptr, what, &out);
    return Error();
  };
  EXPECT_THAT(error(0), HasSubstr("thread 3 of block 0,0 has ended"));
  EXPECT_THAT(error(1), HasSubstr("waits at line"));
  EXPECT_THAT(error(2), HasSubstr("behind an array's end"));
  EXPECT_THAT(error(3), HasSubstr("behind an array's end"));
  EXPECT_THAT(error(4), HasSubstr("different masks"));
  EXPECT_THAT(error(5), HasSubstr("waits for lanes of its warp"));
  EXPECT_THAT(error(6), HasSubstr("not in its own mask"));
  EXPECT_EQ(error(7), "");
  EXPECT_NE(out, out);
  MR_LAUNCH(Wrong, 1, 2048, 0, nullptr, 7, &out);
  EXPECT_THAT(Error(), HasSubstr("configuration"));
}

__global__ void Lanes(int* out) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const unsigned half = lane < 16 ? 0xffffu : 0xffff0000u;  // each half by itself
  int x = lane;
  for (int d = 1; d < 16; d *= 2) x += __shfl_xor_sync(half, x, d, 16);
  const unsigned odd = __ballot_sync(0xffffffffu, lane % 2);
  const unsigned most = __reduce_max_sync(0xffffffffu, 5u * static_cast<unsigned>(lane));
  const int next = __shfl_down_sync(0xffffffffu, lane, 1, 8);
  const int third = __shfl_sync(0xffffffffu, lane, 3, 8);
  out[threadIdx.x] = x;
  out[32 + lane] = odd == 0xaaaaaaaau && most == 155 && next == (lane % 8 == 7 ? lane : lane + 1) &&
                   third == lane / 8 * 8 + 3;
}

TEST(CudaOnCpu, LanesOfAWarpExchangeValues) {
  std::vector<int> out(64);
  MR_LAUNCH(Lanes, 1, 32, 0, nullptr, out.data());
  EXPECT_EQ(Error(), "");
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(out[lane], lane < 16 ? 120 : 376);
    EXPECT_EQ(out[32 + lane], 1);
  }
}

__global__ void Place(unsigned* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] += 1 + thread;
}

TEST(CudaOnCpu, EveryThreadOfEveryBlockRunsOnce) {
  std::vector<unsigned> out(2 * 3 * 2 * 30);
  emulation::SetOrder(5);
  MR_LAUNCH(Place, dim3(2, 3, 2), dim3(5, 3, 2), 0, nullptr, out.data());
  emulation::SetOrder(0);
  EXPECT_EQ(Error(), "");
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], 1 + i % 30) << i;
}

}  // namespace
}  // namespace millrace
