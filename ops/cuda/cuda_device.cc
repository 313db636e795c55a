#include "ops/cuda/cuda_device.h"

#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "graph/base/status.h"
#include "graph/trace/clock.h"
#include "graph/trace/ticks.h"
#include "ops/cuda/cuda_status.h"

namespace millrace {
namespace {

constexpr int64_t kSlotBlockBytes = 16 << 10;

// The device that this thread was given last. LibTorch, which kernels may use, leaves it as it found it.
thread_local int current_device = -1;

// The two clocks at one moment: of a few readings that between which least has passed.
std::pair<int64_t, int64_t> BothClocks() {
  std::pair<int64_t, int64_t> best;
  int64_t least = -1;
  for (int i = 0; i < 4; ++i) {
    const int64_t before = Ticks();
    const int64_t ns = Clock::Real()->Nanoseconds();
    const int64_t passed = Ticks() - before;
    if (least >= 0 && passed >= least) continue;
    least = passed;
    best = {before + passed / 2, ns};
  }
  return best;
}

cudaStream_t S(void* handle) { return static_cast<cudaStream_t>(handle); }
cudaEvent_t E(void* handle) { return static_cast<cudaEvent_t>(handle); }
cudaGraphExec_t G(void* handle) { return static_cast<cudaGraphExec_t>(handle); }

}  // namespace

absl::StatusOr<std::vector<CudaDeviceInfo>> CudaDevices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (IsSticky(error)) return CudaStatus(error, "cudaGetDeviceCount", "cuda");
  if (error != cudaSuccess || count == 0) {
    (void)cudaGetLastError();
    return absl::FailedPreconditionError(
        absl::StrCat("no CUDA device is present: ",
                     cudaGetErrorString(error == cudaSuccess ? cudaErrorNoDevice : error)));
  }
  std::vector<CudaDeviceInfo> devices;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p;
    RETURN_IF_ERROR(CudaStatus(cudaGetDeviceProperties(&p, i), "cudaGetDeviceProperties",
                               absl::StrCat("cuda:", i)));
    devices.push_back({i, p.name, static_cast<int64_t>(p.totalGlobalMem), p.major, p.minor,
                       p.multiProcessorCount});
  }
  return devices;
}

absl::StatusOr<std::shared_ptr<CudaDevice>> CudaDevice::Open(int ordinal,
                                                             const CudaDeviceOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<CudaDeviceInfo> found, CudaDevices());
  if (ordinal < 0 || ordinal >= static_cast<int>(found.size())) {
    return absl::FailedPreconditionError(
        absl::StrCat("there is no device cuda:", ordinal, ": this process sees ", found.size()));
  }
  std::shared_ptr<CudaDevice> device(new CudaDevice(found[ordinal], options));
  RETURN_IF_ERROR(device->Prepare());
  return device;
}

CudaDevice::CudaDevice(CudaDeviceInfo info, const CudaDeviceOptions& options)
    : info_(std::move(info)),
      options_(options),
      name_(absl::StrCat("cuda:", info_.ordinal)),
      opened_(BothClocks()) {}

absl::Status CudaDevice::Prepare() {
  RETURN_IF_ERROR(MakeCurrent());
  cudaStream_t stream;
  RETURN_IF_ERROR(Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                        "cudaStreamCreateWithFlags"));
  between_ = stream;
  cudaEvent_t event;
  RETURN_IF_ERROR(
      Check(cudaEventCreateWithFlags(&event, cudaEventDefault), "cudaEventCreateWithFlags"));
  base_ = event;
  return absl::OkStatus();
}

CudaDevice::~CudaDevice() {
  (void)Enter();
  // Errors are those of work that has told them already.
  for (const Stream& s : streams_) (void)cudaStreamSynchronize(S(s.handle));
  for (void* graph : graphs_) (void)cudaGraphExecDestroy(G(graph));
  for (const Event& e : events_) (void)cudaEventDestroy(E(e.handle));
  if (base_ != nullptr) (void)cudaEventDestroy(E(base_));
  for (const Stream& s : streams_) (void)cudaStreamDestroy(S(s.handle));
  if (between_ != nullptr) (void)cudaStreamDestroy(S(between_));
  for (const SlotBlock& b : slots_) {
    (void)cudaFreeHost(b.host);
    (void)cudaFree(b.device);
  }
  if (spill_memory_ != nullptr) (void)cudaFree(spill_memory_);
  (void)cudaGetLastError();
}

absl::Status CudaDevice::UseTorch(const TorchCudaShim* torch, int64_t spill_bytes) {
  if (torch_ != nullptr) return absl::FailedPreconditionError("LibTorch is in use already");
  ASSIGN_OR_RETURN(spill_memory_, Allocate(Tier::kDevice, spill_bytes));
  spill_ = std::make_unique<Arena>(spill_memory_, spill_bytes);
  torch_ = torch;
  return absl::OkStatus();
}

absl::Status CudaDevice::Check(int error, const char* call) {
  if (error == cudaSuccess) return absl::OkStatus();
  const absl::Status status = CudaStatus(error, call, name_);
  if (!IsSticky(error)) return status;
  std::lock_guard<std::mutex> lock(mutex_);
  if (lost_.ok()) {
    lost_ = Annotate(status, "the device is lost, start the process again");
    is_lost_.store(true);
  }
  return lost_;
}

absl::Status CudaDevice::MakeCurrent() {
  if (is_lost_.load(std::memory_order_relaxed)) {
    std::lock_guard<std::mutex> lock(mutex_);
    return lost_;
  }
  RETURN_IF_ERROR(Check(cudaSetDevice(ordinal()), "cudaSetDevice"));
  current_device = ordinal();
  return absl::OkStatus();
}

absl::Status CudaDevice::Enter() {
  const bool there = current_device == ordinal();
  return there && !is_lost_.load(std::memory_order_relaxed) ? absl::OkStatus() : MakeCurrent();
}

std::string CudaDevice::Describe() const {
  return absl::StrFormat("%s (%s, %.1f GiB)", name_, info_.name,
                         static_cast<double>(info_.memory_bytes) / (int64_t{1} << 30));
}

// ---- memory

absl::StatusOr<void*> CudaDevice::Allocate(Tier tier, int64_t bytes) {
  if (tier != Tier::kDevice && tier != Tier::kPinned) return nullptr;
  RETURN_IF_ERROR(Enter());
  void* base = nullptr;
  if (tier == Tier::kPinned) {
    RETURN_IF_ERROR(
        Annotate(Check(cudaHostAlloc(&base, static_cast<size_t>(bytes), cudaHostAllocPortable),
                       "cudaHostAlloc"),
                 bytes, " bytes of pinned memory"));
    std::memset(base, 0, static_cast<size_t>(bytes));
    return base;
  }
  RETURN_IF_ERROR(Annotate(Check(cudaMalloc(&base, static_cast<size_t>(bytes)), "cudaMalloc"),
                           bytes, " bytes of device memory"));
  absl::Status zeroed =
      Check(cudaMemsetAsync(base, 0, static_cast<size_t>(bytes), S(between_)), "cudaMemsetAsync");
  if (zeroed.ok()) zeroed = Check(cudaStreamSynchronize(S(between_)), "cudaStreamSynchronize");
  if (zeroed.ok()) return base;
  (void)cudaFree(base);
  return zeroed;
}

void CudaDevice::Release(Tier tier, void* base, int64_t) {
  if (base == nullptr) return;
  (void)Enter();
  if (tier == Tier::kPinned) (void)cudaFreeHost(base);
  if (tier == Tier::kDevice) (void)cudaFree(base);
  (void)cudaGetLastError();
}

absl::Status CudaDevice::Read(void* host, const void* device, int64_t bytes) {
  RETURN_IF_ERROR(Enter());
  RETURN_IF_ERROR(Check(
      cudaMemcpyAsync(host, device, static_cast<size_t>(bytes), cudaMemcpyDefault, S(between_)),
      "cudaMemcpyAsync"));
  return Check(cudaStreamSynchronize(S(between_)), "cudaStreamSynchronize");
}

absl::Status CudaDevice::Write(void* device, const void* host, int64_t bytes) {
  RETURN_IF_ERROR(Enter());
  RETURN_IF_ERROR(Check(
      cudaMemcpyAsync(device, host, static_cast<size_t>(bytes), cudaMemcpyDefault, S(between_)),
      "cudaMemcpyAsync"));
  return Check(cudaStreamSynchronize(S(between_)), "cudaStreamSynchronize");
}

absl::StatusOr<CudaStepSlot> CudaDevice::NewStepSlot(int64_t bytes) {
  const int64_t rounded = (bytes + 15) / 16 * 16;
  if (bytes <= 0 || rounded > kSlotBlockBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a step slot of ", bytes, " bytes"));
  }
  if (slots_.empty() || slots_.back().used + rounded > kSlotBlockBytes) {
    ASSIGN_OR_RETURN(void* const host, Allocate(Tier::kPinned, kSlotBlockBytes));
    const absl::StatusOr<void*> device = Allocate(Tier::kDevice, kSlotBlockBytes);
    if (!device.ok()) {
      Release(Tier::kPinned, host, kSlotBlockBytes);
      return device.status();
    }
    slots_.push_back({static_cast<char*>(host), static_cast<char*>(*device), 0});
  }
  SlotBlock& block = slots_.back();
  const CudaStepSlot slot = {block.host + block.used, block.device + block.used};
  block.used += rounded;
  return slot;
}

int64_t CudaDevice::step_slot_bytes() const {
  return static_cast<int64_t>(slots_.size()) * kSlotBlockBytes;
}

// ---- streams and events

absl::StatusOr<StreamId> CudaDevice::NewStream(const std::string& name) {
  for (size_t s = 0; s < streams_.size(); ++s) {
    if (streams_[s].name == name) return static_cast<StreamId>(s);
  }
  RETURN_IF_ERROR(Enter());
  int least = 0, greatest = 0;
  RETURN_IF_ERROR(Check(cudaDeviceGetStreamPriorityRange(&least, &greatest),
                        "cudaDeviceGetStreamPriorityRange"));
  cudaStream_t handle;
  RETURN_IF_ERROR(
      Check(cudaStreamCreateWithPriority(&handle, cudaStreamNonBlocking,
                                         absl::StartsWith(name, "comm") ? greatest : least),
            "cudaStreamCreateWithPriority"));
  streams_.push_back({name, handle});
  return static_cast<StreamId>(streams_.size() - 1);
}

absl::StatusOr<EventId> CudaDevice::NewEvent() {
  RETURN_IF_ERROR(Enter());
  cudaEvent_t handle;
  RETURN_IF_ERROR(
      Check(cudaEventCreateWithFlags(&handle, cudaEventDefault), "cudaEventCreateWithFlags"));
  std::lock_guard<std::mutex> lock(mutex_);
  events_.push_back({handle});
  return static_cast<EventId>(events_.size() - 1);
}

void* CudaDevice::native(StreamId stream) const { return streams_[stream].handle; }

CudaDevice::Event CudaDevice::EventOf(EventId event) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return events_[event];
}

StreamId CudaDevice::compute() const {
  for (size_t s = 0; s < streams_.size(); ++s) {
    if (streams_[s].name == "compute") return static_cast<StreamId>(s);
  }
  return streams_.empty() ? -1 : 0;
}

absl::Status CudaDevice::BeginIssue() {
  RETURN_IF_ERROR(MakeCurrent());
  const StreamId first = compute();
  if (first < 0) return absl::OkStatus();
  const cudaStream_t stream = S(streams_[first].handle);
  const auto [ticks, ns] = BothClocks();
  ticks_per_ms_ = static_cast<double>(ticks - opened_.first) /
                  std::max<double>(1, static_cast<double>(ns - opened_.second)) * 1e6;
  base_ticks_ = Ticks();
  RETURN_IF_ERROR(Check(cudaEventRecord(E(base_), stream), "cudaEventRecord"));
  for (const SlotBlock& b : slots_) {
    RETURN_IF_ERROR(Check(cudaMemcpyAsync(b.device, b.host, static_cast<size_t>(b.used),
                                          cudaMemcpyHostToDevice, stream),
                          "cudaMemcpyAsync"));
  }
  return absl::OkStatus();
}

absl::Status CudaDevice::Enqueue(StreamId, Work) {
  return absl::UnimplementedError(
      absl::StrCat("a kernel of the CPU cannot run in a stream of ", name_));
}

absl::Status CudaDevice::Copy(StreamId stream, void* to, const void* from, int64_t bytes) {
  RETURN_IF_ERROR(Enter());
  return Check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault,
                               S(streams_[stream].handle)),
               "cudaMemcpyAsync");
}

absl::Status CudaDevice::Record(StreamId stream, EventId event) {
  RETURN_IF_ERROR(Enter());
  const Event e = EventOf(event);
  const Stream& s = streams_[stream];
  // In a captured segment an event is a node of its own, that others can ask for and wait for.
  RETURN_IF_ERROR(
      s.capturing
          ? Check(cudaEventRecordWithFlags(E(e.handle), S(s.handle), cudaEventRecordExternal),
                  "cudaEventRecordWithFlags")
          : Check(cudaEventRecord(E(e.handle), S(s.handle)), "cudaEventRecord"));
  std::lock_guard<std::mutex> lock(mutex_);
  events_[event].recorded = true;
  return absl::OkStatus();
}

absl::Status CudaDevice::Wait(StreamId stream, EventId event) {
  RETURN_IF_ERROR(Enter());
  const Event e = EventOf(event);
  if (!e.recorded) {  // CUDA would not wait at all
    return absl::FailedPreconditionError(
        absl::StrCat(name_, ": waits for an event that was never recorded"));
  }
  if (streams_[stream].capturing) {
    return absl::FailedPreconditionError("an event cannot be waited for in a captured segment");
  }
  return Check(cudaStreamWaitEvent(S(streams_[stream].handle), E(e.handle), 0),
               "cudaStreamWaitEvent");
}

// ---- captured segments

absl::Status CudaDevice::BeginCapture(StreamId stream) {
  RETURN_IF_ERROR(Enter());
  // Other ranks of the process go on as they like: only this thread is held to what may be captured.
  RETURN_IF_ERROR(
      Check(cudaStreamBeginCapture(S(streams_[stream].handle), cudaStreamCaptureModeThreadLocal),
            "cudaStreamBeginCapture"));
  streams_[stream].capturing = true;
  return absl::OkStatus();
}

absl::StatusOr<GraphId> CudaDevice::EndCapture(StreamId stream) {
  streams_[stream].capturing = false;
  cudaGraph_t graph = nullptr;
  RETURN_IF_ERROR(
      Check(cudaStreamEndCapture(S(streams_[stream].handle), &graph), "cudaStreamEndCapture"));
  cudaGraphExec_t exec = nullptr;
  const absl::Status made = Check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
  (void)cudaGraphDestroy(graph);
  RETURN_IF_ERROR(made);
  graphs_.push_back(exec);
  // Now rather than at the first launch.
  RETURN_IF_ERROR(Check(cudaGraphUpload(exec, S(streams_[stream].handle)), "cudaGraphUpload"));
  return static_cast<GraphId>(graphs_.size() - 1);
}

absl::Status CudaDevice::Launch(StreamId stream, GraphId graph) {
  RETURN_IF_ERROR(Enter());
  return Check(cudaGraphLaunch(G(graphs_[graph]), S(streams_[stream].handle)), "cudaGraphLaunch");
}

// ---- completion

absl::StatusOr<bool> CudaDevice::Reached(EventId event) {
  RETURN_IF_ERROR(Enter());
  const cudaError_t error = cudaEventQuery(E(EventOf(event).handle));
  if (error == cudaErrorNotReady) {
    (void)cudaGetLastError();
    return false;
  }
  RETURN_IF_ERROR(Check(error, "cudaEventQuery"));
  return true;
}

absl::StatusOr<int64_t> CudaDevice::TimeOf(EventId event) {
  RETURN_IF_ERROR(Enter());
  const Event e = EventOf(event);
  if (!e.recorded) {
    return absl::FailedPreconditionError("an event that has not been reached has no time");
  }
  float ms = 0;
  RETURN_IF_ERROR(Check(cudaEventElapsedTime(&ms, E(base_), E(e.handle)), "cudaEventElapsedTime"));
  return base_ticks_ + static_cast<int64_t>(ms * ticks_per_ms_);
}

// ---- ranges

void CudaDevice::PushRange(const std::string& name) {
  if (options_.ranges) nvtxRangePushA(name.c_str());
}

void CudaDevice::PopRange() {
  if (options_.ranges) nvtxRangePop();
}

}  // namespace millrace
