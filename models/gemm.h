// One matrix product on the calling thread, row-major, on memory that somebody else planned.
//
// ATen's products make tensors and spread over threads as their library likes, which changes the last bits
// with the number of threads. A kernel that splits its work itself, the same way for any number of threads,
// wants the library's inner loops and nothing else:
//
//   const OneGemmThread guard;                    // for calls outside of a parallel region
//   Gemm({m, n, k}, {a, lda}, {b, ldb, /*transposed=*/true}, c, ldc, /*add=*/false);    // c = a * b^T
#ifndef MILLRACE_MODELS_GEMM_H_
#define MILLRACE_MODELS_GEMM_H_

#include <cstdint>

namespace millrace {

struct GemmSize {
  int64_t m, n, k;
};

// Rows of `stride` floats; transposed: the factor is what is stored, its rows and columns exchanged.
struct GemmMatrix {
  const float* data;
  int64_t stride;
  bool transposed = false;
};

// c [m, n] = a [m, k] * b [k, n], or += where `add`.
void Gemm(const GemmSize& size, const GemmMatrix& a, const GemmMatrix& b, float* c, int64_t stride,
          bool add);

// While it lives, products of this thread use no other thread.
class OneGemmThread {
 public:
  OneGemmThread();
  ~OneGemmThread();
  OneGemmThread(const OneGemmThread&) = delete;
  OneGemmThread& operator=(const OneGemmThread&) = delete;

 private:
  int outer_;
};

}  // namespace millrace

#endif  // MILLRACE_MODELS_GEMM_H_
