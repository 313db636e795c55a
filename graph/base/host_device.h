// Functions that a CUDA kernel and the CPU's code share, written once so that both give the same bits.
//
//   MR_HOST_DEVICE inline float ClipFactor(float norm, double max_norm) { ... }
//
// Nothing outside CUDA's compiler. Such functions call nothing but each other and what CUDA has, too.
#ifndef MILLRACE_GRAPH_BASE_HOST_DEVICE_H_
#define MILLRACE_GRAPH_BASE_HOST_DEVICE_H_

#if defined(__CUDACC__)
#define MR_HOST_DEVICE __host__ __device__
#else
#define MR_HOST_DEVICE
#endif

#endif  // MILLRACE_GRAPH_BASE_HOST_DEVICE_H_
