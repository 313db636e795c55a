// Memory for tests and benchmarks of kernels: the device's under CUDA (MILLRACE_CUDA_DEVICE), plain memory where kernels
// are emulated. The same test runs on both.
//
//   DeviceArray<float> x(host);               // a copy of a std::vector
//   Launch(..., x.data(), nullptr);
//   EXPECT_EQ(x.Get(), expected);             // waits for the device
#ifndef MILLRACE_OPS_CUDA_EMULATION_DEVICE_ARRAY_H_
#define MILLRACE_OPS_CUDA_EMULATION_DEVICE_ARRAY_H_

#include <cstdlib>
#include <cstring>
#include <vector>

#if defined(MILLRACE_CUDA_DEVICE)
#include <cuda_runtime_api.h>
#endif

namespace millrace {

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& host) : size_(host.size()) {
#if defined(MILLRACE_CUDA_DEVICE)
    if (cudaMalloc(&data_, bytes() + 256) != cudaSuccess) data_ = nullptr;
    cudaMemcpy(data_, host.data(), bytes(), cudaMemcpyHostToDevice);
#else
    data_ = std::aligned_alloc(256, (bytes() + 511) / 256 * 256);
    if (!host.empty()) std::memcpy(data_, host.data(), bytes());
#endif
  }
  ~DeviceArray() {
#if defined(MILLRACE_CUDA_DEVICE)
    cudaFree(data_);
#else
    std::free(data_);
#endif
  }
  DeviceArray(DeviceArray&& other) noexcept : size_(other.size_), data_(other.data_) {
    other.data_ = nullptr;
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return static_cast<T*>(data_); }
  std::vector<T> Get() const {
    std::vector<T> host(size_);
#if defined(MILLRACE_CUDA_DEVICE)
    cudaMemcpy(host.data(), data_, bytes(), cudaMemcpyDeviceToHost);
#else
    if (!host.empty()) std::memcpy(host.data(), data_, bytes());
#endif
    return host;
  }

 private:
  size_t bytes() const { return size_ * sizeof(T); }

  size_t size_;
  void* data_ = nullptr;
};

}  // namespace millrace

#endif  // MILLRACE_OPS_CUDA_EMULATION_DEVICE_ARRAY_H_
