#include "models/gemm.h"

#include <algorithm>

// LibTorch's own BLAS, by its public Fortran interface.
extern "C" {
void sgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k,
            const float* alpha, const float* a, const int* lda, const float* b, const int* ldb,
            const float* beta, float* c, const int* ldc);
// MKL's; other libraries have no such function and are called within parallel regions only.
int MKL_Set_Num_Threads_Local(int threads) __attribute__((weak));
}

namespace millrace {

void Gemm(const GemmSize& size, const GemmMatrix& a, const GemmMatrix& b, float* c, int64_t stride,
          bool add) {
  // BLAS is column-major: the transposes of all three, so the factors change places.
  const int m = static_cast<int>(size.m), n = static_cast<int>(size.n),
            k = static_cast<int>(size.k);
  if (m == 0 || n == 0) return;
  const auto at_least_one = [](int64_t x) { return static_cast<int>(std::max<int64_t>(x, 1)); };
  const int lda = at_least_one(a.stride), ldb = at_least_one(b.stride), ldc = at_least_one(stride);
  const float alpha = 1, beta = add ? 1 : 0;
  sgemm_(b.transposed ? "T" : "N", a.transposed ? "T" : "N", &n, &m, &k, &alpha, b.data, &ldb,
         a.data, &lda, &beta, c, &ldc);
}

OneGemmThread::OneGemmThread()
    : outer_(MKL_Set_Num_Threads_Local == nullptr ? 0 : MKL_Set_Num_Threads_Local(1)) {}
OneGemmThread::~OneGemmThread() {
  if (MKL_Set_Num_Threads_Local != nullptr) MKL_Set_Num_Threads_Local(outer_);
}

}  // namespace millrace
