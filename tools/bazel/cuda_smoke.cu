#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <vector>

#include "tools/bazel/cuda_smoke.h"

namespace millrace::smoke {
namespace {

// Through bfloat16, whose header draws in CCCL's: the whole toolkit must be there.
__global__ void Double(float* values, int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] += __bfloat162float(__float2bfloat16(values[i]));
}

// Whole numbers that bfloat16 holds exactly.
float Value(int i) { return static_cast<float>(i % 256); }

cudaError_t DoubleThere(std::vector<float>& values) {
  float* there = nullptr;
  const size_t bytes = values.size() * sizeof(float);
  const int count = static_cast<int>(values.size());
  cudaError_t error = cudaMalloc(&there, bytes);
  if (error != cudaSuccess) return error;
  error = cudaMemcpy(there, values.data(), bytes, cudaMemcpyHostToDevice);
  if (error == cudaSuccess) {
    Double<<<(count + 255) / 256, 256>>>(there, count);
    error = cudaGetLastError();
  }
  if (error == cudaSuccess) error = cudaMemcpy(values.data(), there, bytes, cudaMemcpyDeviceToHost);
  const cudaError_t freed = cudaFree(there);
  return error != cudaSuccess ? error : freed;
}

}  // namespace

int DeviceCount(std::string* why) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return count;
  *why = cudaGetErrorString(error == cudaSuccess ? cudaErrorNoDevice : error);
  return 0;
}

std::string DoubleOnDevice(int count) {
  std::vector<float> values(std::max(count, 1));
  for (int i = 0; i < count; ++i) values[i] = Value(i);
  const cudaError_t error = DoubleThere(values);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  for (int i = 0; i < count; ++i) {
    if (values[i] != 2 * Value(i)) {
      return "element " + std::to_string(i) + " is " + std::to_string(values[i]) + ", not " +
             std::to_string(2 * Value(i));
    }
  }
  return "";
}

}  // namespace millrace::smoke
