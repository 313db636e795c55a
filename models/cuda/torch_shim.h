// The one door to LibTorch's CUDA libraries: a table of functions in a shared library of its own.
//
// The program links none of LibTorch's CUDA libraries, so that it starts on a machine without a GPU. What needs their
// headers is libmillrace_torch_cuda.so (torch_shim.cc), loaded after them by models/cuda/torch_cuda.h. Only C crosses
// the border: nothing of ours exists twice in the process.
//
//   const TorchCudaShim* shim = *LoadTorchCuda();
//   if (const char* error = shim->configure(&options)) ...      // nullptr: done
//   shim->install_allocator(CudaAllocatorHooks());              // models/allocator.h
//   shim->prepare(device, stream);                              // on the thread that issues, outside of any step
//   shim->set_stream(device, stream);                           // before operators, on that thread
//
// Every function returns nullptr or what went wrong; the text is valid until this thread's next call. An error of a
// CUDA kernel itself is seen later, by an event or a synchronisation.
#ifndef MILLRACE_MODELS_CUDA_TORCH_SHIM_H_
#define MILLRACE_MODELS_CUDA_TORCH_SHIM_H_

#include <stddef.h>
#include <stdint.h>

#define MILLRACE_TORCH_CUDA_SHIM_VERSION 1

extern "C" {

// What LibTorch's allocator on the device asks of the calling thread.
struct TorchCudaHooks {
  // Memory for an allocation of `bytes` > 0; *must_free: `freed` is to be called for it, else nobody frees it. nullptr:
  // LibTorch's own caching allocator serves it ...
  void* (*place)(size_t bytes, int* must_free);
  // ... and says so here.
  void (*allocated)(void* data, size_t bytes);
  // Before memory is given back, unless `must_free` was 0. Nonzero: it came from `place`, LibTorch's allocator does not know it.
  int (*freed)(void* data);
};

struct TorchCudaOptions {
  int allow_tf32;     // products and convolutions of f32 by TF32
  int deterministic;  // attention's backward and cuDNN by algorithms that give the same bits each time
};

struct TorchCudaMemory {
  int64_t allocated_bytes, reserved_bytes;  // of LibTorch's own caching allocator, now
  int64_t peak_reserved_bytes;
  int64_t device_allocations;  // calls of cudaMalloc so far: none may be added by a step
};

struct TorchCudaShim {
  int version;
  // Once per process, before any tensor is on a device: starts CUDA in LibTorch, then sets how its operators compute.
  const char* (*configure)(const TorchCudaOptions* options);
  // After configure. `hooks` and what they call must live as long as the process.
  const char* (*install_allocator)(const TorchCudaHooks* hooks);
  // The calling thread's device and stream (a cudaStream_t of ours) for the operators that follow.
  const char* (*set_stream)(int device, void* stream);
  // What LibTorch makes at first use for a thread and a stream (cuBLAS handle and workspaces), made now. Sets the
  // stream, too.
  const char* (*prepare)(int device, void* stream);
  const char* (*memory)(int device, TorchCudaMemory* out);
  // What LibTorch's caching allocator holds and nobody uses goes back to the device: after a probe, before arenas.
  const char* (*release_cached)(void);
};

// The library's only symbol.
typedef const struct TorchCudaShim* (*TorchCudaShimFunction)(void);
#define MILLRACE_TORCH_CUDA_SHIM_SYMBOL "millrace_torch_cuda_shim"
}

#endif  // MILLRACE_MODELS_CUDA_TORCH_SHIM_H_
