// Loads LibTorch's CUDA libraries into a running program, and with them the one library of ours that needs their
// headers (torch_shim.h).
//
//   ASSIGN_OR_RETURN(const TorchCudaShim* shim, LoadTorchCuda());
//
// Call it once a device was found and before anything else uses LibTorch: LibTorch asks once whether it has CUDA, at
// its first backward at the latest, and keeps the answer. (`shim->configure` says so if it was too late.) Later calls
// return the same table; a failure is not kept, the next call tries again. Thread-safe.
//
// Where it looks, in this order:
//   libtorch_cuda.so             $MILLRACE_TORCH_LIB, beside the libtorch_cpu.so that is loaded, the loader's own search
//   libmillrace_torch_cuda.so    $MILLRACE_LIB, beside the program, in the program's runfiles
//
// LibTorch's CUDA libraries need cuBLAS, cuDNN and NCCL, which a Python installation of torch has where they look for
// them: MILLRACE_TORCH_LIB=$(python3 -c 'import torch, os; print(os.path.dirname(torch.__file__))')/lib
#ifndef MILLRACE_MODELS_CUDA_TORCH_CUDA_H_
#define MILLRACE_MODELS_CUDA_TORCH_CUDA_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/cuda/torch_shim.h"

namespace millrace {

absl::StatusOr<const TorchCudaShim*> LoadTorchCuda();

// What a function of the table returned, as a status; `what` was done.
absl::Status ShimStatus(const char* error, const char* what);

// The files that LoadTorchCuda tries, in order. For messages and tests.
std::vector<std::string> TorchCudaCandidates();
std::vector<std::string> ShimCandidates();

}  // namespace millrace

#endif  // MILLRACE_MODELS_CUDA_TORCH_CUDA_H_
