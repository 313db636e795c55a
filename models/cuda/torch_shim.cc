// libmillrace_torch_cuda.so: thin calls into LibTorch's CUDA libraries, and the allocator that asks ours first.
#include "models/cuda/torch_shim.h"

#include <ATen/Context.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace {

namespace caching = c10::cuda::CUDACachingAllocator;

// No exception leaves; LibTorch's texts carry a stack, of which the first line says what.
template <typename F>
const char* Try(F&& body) {
  thread_local std::string error;
  try {
    body();
    return nullptr;
  } catch (const c10::Error& e) {
    error = e.what_without_backtrace();
  } catch (const std::exception& e) {
    error = e.what();
  } catch (...) {
    error = "unknown exception";
  }
  return error.c_str();
}

TorchCudaHooks hooks;
caching::CUDAAllocator* native = nullptr;

void KeepPlanned(void*) {}
void FreeAsked(void* data) {
  if (data != nullptr && hooks.freed(data) == 0) native->raw_delete(data);
}

// Planned memory first, LibTorch's caching allocator behind it. Everything that is not an allocation is the latter's.
class PlannedAllocator final : public caching::CUDAAllocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return native->allocate(0);
    const c10::Device device(c10::kCUDA, c10::cuda::current_device());
    int must_free = 0;
    if (void* data = hooks.place(bytes, &must_free)) {
      return {data, data, must_free != 0 ? &FreeAsked : &KeepPlanned, device};
    }
    void* data = native->raw_alloc(bytes);
    hooks.allocated(data, bytes);
    return {data, data, &FreeAsked, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &FreeAsked; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    native->copy_data(to, from, bytes);
  }

  void* raw_alloc(size_t bytes) override {
    return Raw(bytes, [&] { return native->raw_alloc(bytes); });
  }
  void* raw_alloc_with_stream(size_t bytes, cudaStream_t stream) override {
    return Raw(bytes, [&] { return native->raw_alloc_with_stream(bytes, stream); });
  }
  void raw_delete(void* data) override { FreeAsked(data); }

  // Planned memory is used in the plan's order and needs no record; the caching allocator looks at its own only.
  void recordStream(const c10::DataPtr& data, c10::cuda::CUDAStream stream) override {
    if (data.get_deleter() != &FreeAsked) return;
    c10::DataPtr own(data.get(), data.get(), native->raw_deleter(), data.device());
    try {
      native->recordStream(own, stream);
    } catch (...) {
      own.release_context();
      throw;
    }
    own.release_context();
  }

  bool initialized() override { return native->initialized(); }
  void emptyCache(c10::MempoolId_t pool) override { native->emptyCache(pool); }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex d) override {
    return native->getDeviceStats(d);
  }
  void resetAccumulatedStats(c10::DeviceIndex d) override { native->resetAccumulatedStats(d); }
  void resetPeakStats(c10::DeviceIndex d) override { native->resetPeakStats(d); }
  void init(int devices) override { native->init(devices); }
  double getMemoryFraction(c10::DeviceIndex d) override { return native->getMemoryFraction(d); }
  void setMemoryFraction(double fraction, c10::DeviceIndex d) override {
    native->setMemoryFraction(fraction, d);
  }
  std::vector<caching::StreamSegmentSize> getExpandableSegmentSizes(c10::DeviceIndex d) override {
    return native->getExpandableSegmentSizes(d);
  }
  void enable(bool value) override { native->enable(value); }
  bool isEnabled() const override { return native->isEnabled(); }
  void cacheInfo(c10::DeviceIndex d, size_t* largest) override { native->cacheInfo(d, largest); }
  void* getBaseAllocation(void* data, size_t* size) override {
    return native->getBaseAllocation(data, size);
  }
  caching::SnapshotInfo snapshot(c10::MempoolId_t pool, bool traces) override {
    return native->snapshot(pool, traces);
  }
  void beginAllocateToPool(c10::DeviceIndex d, c10::MempoolId_t pool,
                           std::function<bool(cudaStream_t)> filter) override {
    native->beginAllocateToPool(d, pool, std::move(filter));
  }
  void endAllocateToPool(c10::DeviceIndex d, c10::MempoolId_t pool) override {
    native->endAllocateToPool(d, pool);
  }
  void releasePool(c10::DeviceIndex d, c10::MempoolId_t pool) override {
    native->releasePool(d, pool);
  }
  int getPoolUseCount(c10::DeviceIndex d, c10::MempoolId_t pool) override {
    return native->getPoolUseCount(d, pool);
  }
  void createOrIncrefPool(c10::DeviceIndex d, c10::MempoolId_t pool,
                          std::shared_ptr<caching::CUDAAllocator> allocator) override {
    native->createOrIncrefPool(d, pool, std::move(allocator));
  }
  void setUseOnOOM(c10::DeviceIndex d, c10::MempoolId_t pool, bool use) override {
    native->setUseOnOOM(d, pool, use);
  }
  void setNoSplit(c10::DeviceIndex d, c10::MempoolId_t pool) override {
    native->setNoSplit(d, pool);
  }
  bool checkPoolLiveAllocations(c10::DeviceIndex d, c10::MempoolId_t pool,
                                const std::unordered_set<void*>& expected) override {
    return native->checkPoolLiveAllocations(d, pool, expected);
  }
  caching::ShareableHandle shareIpcHandle(void* data) override {
    return native->shareIpcHandle(data);
  }
  std::shared_ptr<void> getIpcDevPtr(std::string handle) override {
    return native->getIpcDevPtr(std::move(handle));
  }
  bool isHistoryEnabled() override { return native->isHistoryEnabled(); }
  void recordHistory(bool enabled, caching::CreateContextFn recorder, size_t entries,
                     caching::RecordContext when, bool clear,
                     const std::vector<std::string>& skip) override {
    native->recordHistory(enabled, recorder, entries, when, clear, skip);
  }
  void attachOutOfMemoryObserver(caching::OutOfMemoryObserver observer) override {
    native->attachOutOfMemoryObserver(std::move(observer));
  }
  void attachAllocatorTraceTracker(caching::AllocatorTraceTracker tracker) override {
    native->attachAllocatorTraceTracker(std::move(tracker));
  }
  void enablePeerAccess(c10::DeviceIndex from, c10::DeviceIndex to) override {
    native->enablePeerAccess(from, to);
  }
  cudaError_t memcpyAsync(void* to, int to_device, const void* from, int from_device, size_t bytes,
                          cudaStream_t stream, bool peer) override {
    return native->memcpyAsync(to, to_device, from, from_device, bytes, stream, peer);
  }
  std::shared_ptr<caching::AllocatorState> getCheckpointState(c10::DeviceIndex d,
                                                              c10::MempoolId_t id) override {
    return native->getCheckpointState(d, id);
  }
  caching::CheckpointDelta setCheckpointPoolState(
      c10::DeviceIndex d, std::shared_ptr<caching::AllocatorState> state) override {
    return native->setCheckpointPoolState(d, std::move(state));
  }
  std::string name() override { return "millrace"; }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex d) override {
    return native->getMemoryInfo(d);
  }

 private:
  template <typename F>
  static void* Raw(size_t bytes, const F& from_native) {
    if (bytes == 0) return nullptr;
    int must_free = 0;
    if (void* data = hooks.place(bytes, &must_free)) return data;
    void* data = from_native();
    hooks.allocated(data, bytes);
    return data;
  }
};

const char* Configure(const TorchCudaOptions* options) {
  return Try([&] {
    // One workspace size for all, so that products choose the same algorithms each time; unless a person chose.
    setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
    at::Context& context = at::globalContext();
    TORCH_CHECK(c10::cuda::device_count() > 0, "LibTorch sees no CUDA device");
    TORCH_CHECK(context.hasCUDA(),
                "LibTorch was used before its CUDA libraries were loaded, and keeps that it has no "
                "CUDA; load them first");
    context.lazyInitDevice(c10::kCUDA);
    const bool tf32 = options->allow_tf32 != 0, deterministic = options->deterministic != 0;
    context.setAllowTF32CuBLAS(tf32);
    context.setAllowTF32CuDNN(tf32);
    // Sums of 16-bit products stay in f32 until they are complete.
    context.setAllowFP16ReductionCuBLAS(false);
    context.setAllowBF16ReductionCuBLAS(false);
    context.setBenchmarkCuDNN(false);  // it would try algorithms, and take memory for it
    context.setDeterministicCuDNN(deterministic);
    // Only warns where an operator has no such algorithm. New memory is not filled: every byte of a plan is written.
    context.setDeterministicAlgorithms(deterministic, /*warn_only=*/true);
    context.setDeterministicFillUninitializedMemory(false);
    context.setSDPUseCuDNN(false);  // its plans are made at run time, with memory of their own
  });
}

const char* InstallAllocator(const TorchCudaHooks* to) {
  return Try([&] {
    TORCH_CHECK(native == nullptr, "the allocator is installed already");
    TORCH_CHECK(caching::get() != nullptr && caching::get()->initialized(),
                "CUDA is not started in LibTorch: configure comes first");
    hooks = *to;
    native = caching::get();
    static PlannedAllocator* allocator = new PlannedAllocator;
    caching::allocator.store(allocator);
    c10::SetAllocator(c10::kCUDA, allocator, /*priority=*/100);
  });
}

void UseStream(int device, void* stream) {
  const auto index = static_cast<c10::DeviceIndex>(device);
  c10::cuda::set_device(index);
  c10::cuda::setCurrentCUDAStream(
      c10::cuda::getStreamFromExternal(static_cast<cudaStream_t>(stream), index));
}

const char* SetStream(int device, void* stream) {
  return Try([&] { UseStream(device, stream); });
}

const char* Prepare(int device, void* stream) {
  return Try([&] {
    UseStream(device, stream);
    for (const c10::ScalarType type : {c10::kFloat, c10::kBFloat16, c10::kHalf}) {
      const auto options = at::TensorOptions().dtype(type).device(c10::kCUDA, device);
      const at::Tensor a = at::zeros({32, 32}, options), b = at::zeros({1, 32, 32}, options);
      at::addmm(at::zeros({32}, options), a, a);  // cuBLASLt, its epilogue adds the bias
      at::mm(a, a);
      at::bmm(b, b);
    }
  });
}

const char* Memory(int device, TorchCudaMemory* out) {
  return Try([&] {
    const auto stats = caching::get()->getDeviceStats(static_cast<c10::DeviceIndex>(device));
    out->allocated_bytes = stats.allocated_bytes[0].current;
    out->reserved_bytes = stats.reserved_bytes[0].current;
    out->peak_reserved_bytes = stats.reserved_bytes[0].peak;
    out->device_allocations = stats.num_device_alloc;
  });
}

const char* ReleaseCached() {
  return Try([] { caching::get()->emptyCache({0, 0}); });
}

const TorchCudaShim shim{MILLRACE_TORCH_CUDA_SHIM_VERSION,
                         &Configure,
                         &InstallAllocator,
                         &SetStream,
                         &Prepare,
                         &Memory,
                         &ReleaseCached};

}  // namespace

extern "C" __attribute__((visibility("default"))) const TorchCudaShim* millrace_torch_cuda_shim() {
  return &shim;
}
