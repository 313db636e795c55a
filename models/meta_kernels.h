// Shapes-only versions of the operators for which LibTorch's C++ has none (Python registers its own).
// Each makes the allocations of the CPU kernel, its scratch included, in the same order and of the same
// sizes, and computes nothing; the tests compare them with the CPU kernels run for real.
//
// Under ForceGeneric (models/generic.h) they imitate LibTorch's CUDA kernels instead. That is an estimate: kernels there
// are chosen by shape, device and library version, and cuDNN's and cuBLAS's workspaces are not in it.
//
// Some CPU kernels keep scratch per thread. The number of threads to imitate is set here, not taken from
// at::get_num_threads(): a plan may be made for another machine.
#ifndef MILLRACE_MODELS_META_KERNELS_H_
#define MILLRACE_MODELS_META_KERNELS_H_

namespace millrace {

// While it lives, meta kernels of this thread imitate CPU kernels that run on `threads` threads.
class MetaThreads {
 public:
  explicit MetaThreads(int threads);
  ~MetaThreads();
  MetaThreads(const MetaThreads&) = delete;
  MetaThreads& operator=(const MetaThreads&) = delete;

  // The number in force on this thread, 1 where none was set. For kernels of our own that have scratch per thread.
  static int Current();

 private:
  int outer_;
};

}  // namespace millrace

#endif  // MILLRACE_MODELS_META_KERNELS_H_
