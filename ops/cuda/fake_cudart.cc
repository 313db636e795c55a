#include "ops/cuda/fake_cudart.h"

#include <cuda_runtime_api.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <vector>

// CUDA's own opaque types, as this runtime has them.
struct CUevent_st {
  int device = 0;
  int64_t recorded = 0, reached = 0;  // how often
  std::chrono::steady_clock::time_point when;
  int hide = 0;  // queries that are lied to
};

namespace {

struct Item {
  enum class Kind { kWork, kRecord, kWait } kind = Kind::kWork;
  std::function<void()> work;
  cudaEvent_t event = nullptr;
  int64_t generation = 0;
};

}  // namespace

struct CUgraph_st {
  std::vector<Item> items;
};
struct CUgraphExec_st {
  std::vector<Item> items;
};
struct CUstream_st {
  int device = 0;
  int priority = 0;
  std::deque<Item> items;
  bool busy = false, stop = false;
  bool capturing = false, invalid = false;
  std::vector<Item> captured;
  std::mt19937_64 random;
  std::thread thread;
};

namespace millrace {
namespace {

struct State {
  std::mutex mutex;
  std::condition_variable moved;
  FakeCudartOptions options;
  std::mt19937_64 random;
  int64_t calls = 0, queries = 0, work = 0, allocations = 0, waits = 0, launches = 0;
  bool in_step = false;
  std::string misuse;
  std::set<cudaStream_t> streams;
  std::set<cudaEvent_t> events;
  std::set<cudaGraph_t> graphs;
  std::set<cudaGraphExec_t> execs;
  std::map<char*, std::pair<size_t, bool>> memory;  // bytes, pinned
  std::map<int, int64_t> used;                      // per device
  std::map<char*, int> device_of;
  std::map<int, cudaError_t> broken;  // per device
  int64_t next_stream = 0;
};

State& Fake() {
  static State* const state = new State;
  return *state;
}

using Lock = std::unique_lock<std::mutex>;

thread_local int current = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local int captures = 0;  // streams that this thread captures

void Misuse(const std::string& what) {
  if (Fake().misuse.empty()) Fake().misuse = what;
}

cudaError_t Fail(cudaError_t error) {
  last_error = error;
  return error;
}

// What every call begins with, under the lock: is it its turn to fail?
cudaError_t Turn(const char* call) {
  State& f = Fake();
  if (f.options.devices == 0) return Fail(cudaErrorNoDevice);
  if (const auto broken = f.broken.find(current); broken != f.broken.end()) {
    return Fail(broken->second);
  }
  return ++f.calls == f.options.fail_call ? Fail(cudaErrorUnknown) : cudaSuccess;
}

// Of calls that make or free something.
void Making(const char* call) {
  ++Fake().allocations;
  if (Fake().in_step) Misuse(std::string(call) + " while a step runs");
  if (captures > 0 && std::strncmp(call, "cudaGraph", 9) != 0) {
    Misuse(std::string(call) + " while the thread captures a stream");
  }
}

bool Known(const void* p, size_t bytes) {
  auto at = Fake().memory.upper_bound(const_cast<char*>(static_cast<const char*>(p)));
  if (at == Fake().memory.begin()) return false;
  --at;
  return static_cast<const char*>(p) + bytes <= at->first + at->second.first;
}

void Serve(cudaStream_t s) {
  State& f = Fake();
  Lock lock(f.mutex);
  while (true) {
    f.moved.wait(lock, [&] {
      if (s->items.empty()) return s->stop;
      const Item& head = s->items.front();
      return head.kind != Item::Kind::kWait || head.event->reached >= head.generation;
    });
    if (s->items.empty()) return;
    if (f.options.adversarial && s->random() % 32 == 0) {
      const auto nap = std::chrono::microseconds(s->random() % 100);
      lock.unlock();
      std::this_thread::sleep_for(nap);
      lock.lock();
    }
    Item item = std::move(s->items.front());
    s->items.pop_front();
    if (item.kind == Item::Kind::kRecord) {
      item.event->reached = item.generation;
      item.event->when = std::chrono::steady_clock::now();
      item.event->hide = f.options.adversarial && s->random() % 4 == 0 ? 2 : 0;
    } else if (item.kind == Item::Kind::kWork && f.broken.count(s->device) == 0) {
      if (++f.work == f.options.fail_work) {
        f.broken[s->device] = cudaErrorIllegalAddress;
      } else {
        s->busy = true;
        lock.unlock();
        item.work();
        item.work = nullptr;
        lock.lock();
        s->busy = false;
      }
    }
    f.moved.notify_all();
  }
}

// Into the stream, or into what is captured of it.
cudaError_t Put(cudaStream_t s, Item item, const char* call) {
  State& f = Fake();
  if (f.streams.count(s) == 0) {
    Misuse(std::string(call) + " in a stream that there is not");
    return Fail(cudaErrorInvalidResourceHandle);
  }
  if (s->capturing) {
    s->captured.push_back(std::move(item));
    return cudaSuccess;
  }
  s->items.push_back(std::move(item));
  f.moved.notify_all();
  return cudaSuccess;
}

bool Idle(cudaStream_t s) { return s->items.empty() && !s->busy; }

cudaError_t Record(cudaEvent_t e, cudaStream_t s, bool external) {
  Lock lock(Fake().mutex);
  if (const cudaError_t error = Turn("cudaEventRecord")) return error;
  if (Fake().events.count(e) == 0) return Fail(cudaErrorInvalidResourceHandle);
  if (Fake().streams.count(s) > 0 && s->device != e->device) {
    Misuse("an event of one device recorded in a stream of another");
    return Fail(cudaErrorInvalidResourceHandle);
  }
  Item item{Item::Kind::kRecord, nullptr, e};
  if (Fake().streams.count(s) > 0 && s->capturing) {
    if (!external) Misuse("an event recorded in a captured stream, and not as an external one");
  } else {
    item.generation = ++e->recorded;
  }
  return Put(s, std::move(item), "cudaEventRecord");
}

cudaError_t Allocate(void** p, size_t bytes, bool pinned, const char* call) {
  State& f = Fake();
  Lock lock(f.mutex);
  Making(call);
  if (const cudaError_t error = Turn(call)) return error;
  if (!pinned && f.used[current] + static_cast<int64_t>(bytes) > f.options.memory_bytes) {
    return Fail(cudaErrorMemoryAllocation);
  }
  char* const memory = static_cast<char*>(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096));
  std::memset(memory, 0xab, bytes);
  f.memory[memory] = {bytes, pinned};
  f.device_of[memory] = current;
  if (!pinned) f.used[current] += static_cast<int64_t>(bytes);
  *p = memory;
  return cudaSuccess;
}

cudaError_t Free(void* p, const char* call) {
  State& f = Fake();
  Lock lock(f.mutex);
  if (p == nullptr) return cudaSuccess;
  Making(call);
  const auto found = f.memory.find(static_cast<char*>(p));
  if (found == f.memory.end()) {
    Misuse(std::string(call) + " of memory that there is not");
    return Fail(cudaErrorInvalidValue);
  }
  if (!found->second.second) f.used[f.device_of[found->first]] -= found->second.first;
  f.device_of.erase(found->first);
  f.memory.erase(found);
  std::free(p);
  return cudaSuccess;
}

// Frees and destroys happen whatever they return, as CUDA's do.
template <typename Handle>
cudaError_t Forget(std::set<Handle>& known, Handle handle, const char* call) {
  Lock lock(Fake().mutex);
  Making(call);
  if (known.erase(handle) == 0) {
    Misuse(std::string(call) + " of something that there is not");
    return Fail(cudaErrorInvalidResourceHandle);
  }
  delete handle;
  return cudaSuccess;
}

template <typename T>
T Read(const T& value) {
  Lock lock(Fake().mutex);
  return value;
}

}  // namespace

FakeCudart& FakeCudart::Get() {
  static FakeCudart* const fake = new FakeCudart;
  return *fake;
}

void FakeCudart::Start(const FakeCudartOptions& options) {
  State& f = Fake();
  Lock lock(f.mutex);
  f.options = options;
  f.random.seed(options.seed);
  f.calls = f.queries = f.work = f.allocations = f.waits = f.launches = f.next_stream = 0;
  f.in_step = false;
  f.misuse.clear();
  f.broken.clear();
  if (!f.streams.empty() || !f.memory.empty()) Misuse("something of the test before is alive");
}

void FakeCudart::StepBegins() {
  Lock lock(Fake().mutex);
  Fake().in_step = true;
}
void FakeCudart::StepEnds() {
  Lock lock(Fake().mutex);
  Fake().in_step = false;
}
int64_t FakeCudart::calls() const { return Read(Fake().calls); }
int64_t FakeCudart::queries() const { return Read(Fake().queries); }
int64_t FakeCudart::work() const { return Read(Fake().work); }
int64_t FakeCudart::allocations() const { return Read(Fake().allocations); }
int64_t FakeCudart::waits() const { return Read(Fake().waits); }
int64_t FakeCudart::launches() const { return Read(Fake().launches); }
std::string FakeCudart::misuse() const { return Read(Fake().misuse); }
int64_t FakeCudart::alive() const {
  const State& f = Fake();
  Lock lock(Fake().mutex);
  return static_cast<int64_t>(f.streams.size() + f.events.size() + f.graphs.size() +
                              f.execs.size() + f.memory.size());
}
int FakeCudart::priority(void* stream) const {
  Lock lock(Fake().mutex);
  return static_cast<cudaStream_t>(stream)->priority;
}

}  // namespace millrace

using namespace millrace;  // NOLINT: the runtime's functions are C's

extern "C" {

cudaError_t CUDARTAPI cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

const char* CUDARTAPI cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorUnknown:
      return "cudaErrorUnknown";
    default:
      return "cudaErrorOfTheFake";
  }
}
const char* CUDARTAPI cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorUnknown ? "the fault" : cudaGetErrorName(error);
}

cudaError_t CUDARTAPI cudaGetDeviceCount(int* count) {
  Lock lock(Fake().mutex);
  *count = Fake().options.devices;
  return Turn("cudaGetDeviceCount");
}

cudaError_t CUDARTAPI cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  Lock lock(Fake().mutex);
  if (const cudaError_t error = Turn("cudaGetDeviceProperties")) return error;
  *p = cudaDeviceProp();
  std::strncpy(p->name, "a fake", sizeof(p->name) - 1);
  p->totalGlobalMem = static_cast<size_t>(Fake().options.memory_bytes);
  p->major = 9;
  p->multiProcessorCount = 132;
  return cudaSuccess;
}

cudaError_t CUDARTAPI cudaSetDevice(int device) {
  Lock lock(Fake().mutex);
  if (Fake().broken.count(device) == 0) current = device;  // told by the next call otherwise
  if (const cudaError_t error = Turn("cudaSetDevice")) return error;
  return device < Fake().options.devices ? cudaSuccess : Fail(cudaErrorInvalidDevice);
}

cudaError_t CUDARTAPI cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  Lock lock(Fake().mutex);
  *least = 0;
  *greatest = -5;
  return Turn("cudaDeviceGetStreamPriorityRange");
}

cudaError_t CUDARTAPI cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags,
                                                   int priority) {
  State& f = Fake();
  Lock lock(f.mutex);
  Making("cudaStreamCreate");
  if (const cudaError_t error = Turn("cudaStreamCreate")) return error;
  if (flags != cudaStreamNonBlocking) Misuse("a stream that waits for the default stream");
  cudaStream_t s = new CUstream_st;
  s->device = current;
  s->priority = priority;
  s->random.seed(f.options.seed * 7919 + static_cast<uint64_t>(++f.next_stream));
  f.streams.insert(s);
  s->thread = std::thread(Serve, s);
  *stream = s;
  return cudaSuccess;
}

cudaError_t CUDARTAPI cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t CUDARTAPI cudaStreamDestroy(cudaStream_t s) {
  {
    Lock lock(Fake().mutex);
    Making("cudaStreamDestroy");
    if (Fake().streams.erase(s) == 0) {
      Misuse("cudaStreamDestroy of a stream that there is not");
      return Fail(cudaErrorInvalidResourceHandle);
    }
    s->stop = true;
  }
  Fake().moved.notify_all();
  s->thread.join();
  delete s;
  return cudaSuccess;
}

cudaError_t CUDARTAPI cudaStreamSynchronize(cudaStream_t s) {
  State& f = Fake();
  Lock lock(f.mutex);
  ++f.waits;
  if (f.in_step) Misuse("cudaStreamSynchronize while a step runs");
  const cudaError_t error = Turn("cudaStreamSynchronize");
  if (error != cudaSuccess && f.broken.count(current) == 0) return error;
  f.moved.wait(lock, [&] { return Idle(s); });
  const auto broken = f.broken.find(s->device);
  return broken == f.broken.end() ? cudaSuccess : Fail(broken->second);
}

cudaError_t CUDARTAPI cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  Lock lock(Fake().mutex);
  Making("cudaEventCreate");
  if (const cudaError_t error = Turn("cudaEventCreate")) return error;
  *event = new CUevent_st;
  (*event)->device = current;
  Fake().events.insert(*event);
  return cudaSuccess;
}

cudaError_t CUDARTAPI cudaEventDestroy(cudaEvent_t event) {
  return Forget(Fake().events, event, "cudaEventDestroy");
}

cudaError_t CUDARTAPI cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return Record(event, stream, /*external=*/false);
}

cudaError_t CUDARTAPI cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream,
                                               unsigned int flags) {
  return Record(event, stream, flags == cudaEventRecordExternal);
}

cudaError_t CUDARTAPI cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned int) {
  Lock lock(Fake().mutex);
  if (const cudaError_t error = Turn("cudaStreamWaitEvent")) return error;
  if (Fake().events.count(e) == 0) return Fail(cudaErrorInvalidResourceHandle);
  if (e->recorded == 0) Misuse("waits for an event that was never recorded");
  if (Fake().streams.count(s) > 0 && s->capturing) {
    Misuse("waits for an event outside, in a captured stream");
    return Fail(cudaErrorStreamCaptureIsolation);
  }
  return Put(s, {Item::Kind::kWait, nullptr, e, e->recorded}, "cudaStreamWaitEvent");
}

cudaError_t CUDARTAPI cudaEventQuery(cudaEvent_t e) {
  State& f = Fake();
  Lock lock(f.mutex);
  if (const auto broken = f.broken.find(e->device); broken != f.broken.end()) {
    return Fail(broken->second);
  }
  if (++f.queries == f.options.fail_query) return Fail(cudaErrorUnknown);
  if (e->reached < e->recorded) return Fail(cudaErrorNotReady);
  if (e->hide > 0) {
    --e->hide;
    return Fail(cudaErrorNotReady);
  }
  return cudaSuccess;
}

cudaError_t CUDARTAPI cudaEventElapsedTime(float* ms, cudaEvent_t begin, cudaEvent_t end) {
  Lock lock(Fake().mutex);
  if (const cudaError_t error = Turn("cudaEventElapsedTime")) return error;
  for (cudaEvent_t e : {begin, end}) {
    if (e->recorded == 0) return Fail(cudaErrorInvalidResourceHandle);
    if (e->reached < e->recorded) return Fail(cudaErrorNotReady);
  }
  *ms = std::chrono::duration<float, std::milli>(end->when - begin->when).count();
  return cudaSuccess;
}

cudaError_t CUDARTAPI cudaMalloc(void** p, size_t bytes) {
  return Allocate(p, bytes, /*pinned=*/false, "cudaMalloc");
}
cudaError_t CUDARTAPI cudaFree(void* p) { return Free(p, "cudaFree"); }
cudaError_t CUDARTAPI cudaHostAlloc(void** p, size_t bytes, unsigned int flags) {
  return Allocate(p, bytes, /*pinned=*/true, "cudaHostAlloc");
}
cudaError_t CUDARTAPI cudaFreeHost(void* p) { return Free(p, "cudaFreeHost"); }

cudaError_t CUDARTAPI cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t s) {
  Lock lock(Fake().mutex);
  if (const cudaError_t error = Turn("cudaMemsetAsync")) return error;
  if (!Known(p, bytes)) Misuse("cudaMemsetAsync of memory that there is not");
  return Put(s, {Item::Kind::kWork, [=] { std::memset(p, value, bytes); }}, "cudaMemsetAsync");
}

cudaError_t CUDARTAPI cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                      cudaStream_t s) {
  Lock lock(Fake().mutex);
  if (const cudaError_t error = Turn("cudaMemcpyAsync")) return error;
  const bool pageable = !Known(to, bytes) || !Known(from, bytes);
  if (pageable && Fake().in_step) Misuse("a copy of pageable memory while a step runs");
  return Put(s, {Item::Kind::kWork, [=] { std::memcpy(to, from, bytes); }}, "cudaMemcpyAsync");
}

cudaError_t CUDARTAPI cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t fn, void* user) {
  Lock lock(Fake().mutex);
  if (const cudaError_t error = Turn("cudaLaunchHostFunc")) return error;
  return Put(s, {Item::Kind::kWork, [=] { fn(user); }}, "cudaLaunchHostFunc");
}

cudaError_t CUDARTAPI cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode) {
  Lock lock(Fake().mutex);
  if (const cudaError_t error = Turn("cudaStreamBeginCapture")) return error;
  if (mode != cudaStreamCaptureModeThreadLocal) Misuse("a capture that binds other threads");
  s->capturing = true;
  s->captured.clear();
  ++captures;
  return cudaSuccess;
}

cudaError_t CUDARTAPI cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  Lock lock(Fake().mutex);
  *graph = nullptr;
  if (!s->capturing) return Fail(cudaErrorIllegalState);
  s->capturing = false;  // also when it fails
  --captures;
  if (const cudaError_t error = Turn("cudaStreamEndCapture")) return error;
  *graph = new CUgraph_st{std::move(s->captured)};
  Fake().graphs.insert(*graph);
  return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph,
                                           unsigned long long) {  // NOLINT: CUDA's type
  Lock lock(Fake().mutex);
  Making("cudaGraphInstantiate");
  if (const cudaError_t error = Turn("cudaGraphInstantiate")) return error;
  *exec = new CUgraphExec_st{graph->items};
  Fake().execs.insert(*exec);
  return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t) {
  Lock lock(Fake().mutex);
  return Turn("cudaGraphUpload");
}

cudaError_t CUDARTAPI cudaGraphDestroy(cudaGraph_t graph) {
  return Forget(Fake().graphs, graph, "cudaGraphDestroy");
}
cudaError_t CUDARTAPI cudaGraphExecDestroy(cudaGraphExec_t exec) {
  return Forget(Fake().execs, exec, "cudaGraphExecDestroy");
}

cudaError_t CUDARTAPI cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
  Lock lock(Fake().mutex);
  if (const cudaError_t error = Turn("cudaGraphLaunch")) return error;
  ++Fake().launches;
  for (Item item : exec->items) {
    if (item.kind == Item::Kind::kRecord) item.generation = ++item.event->recorded;
    if (const cudaError_t error = Put(s, std::move(item), "cudaGraphLaunch")) return error;
  }
  return cudaSuccess;
}

}  // extern "C"
