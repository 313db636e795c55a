// CUDA's error numbers as statuses: which call of which device, CUDA's name for it and CUDA's words.
//
//   RETURN_IF_ERROR(CudaStatus(cudaEventCreate(&event), "cudaEventCreate", "cuda:0"));
//     "cuda:0: cudaEventCreate: cudaErrorMemoryAllocation: out of memory"
//
// The runtime keeps the last error of a thread and tells it to whoever asks next, LibTorch for example; here it has
// been told, so it is forgotten.
#ifndef MILLRACE_OPS_CUDA_CUDA_STATUS_H_
#define MILLRACE_OPS_CUDA_CUDA_STATUS_H_

#include <string>

#include "absl/status/status.h"

namespace millrace {

// `error`: a cudaError_t.
absl::Status CudaStatus(int error, const char* call, const std::string& device);

// Whether every later call of the process on that device fails, too: its context is gone.
bool IsSticky(int error);

}  // namespace millrace

#endif  // MILLRACE_OPS_CUDA_CUDA_STATUS_H_
