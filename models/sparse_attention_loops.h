// The arithmetic of models/sparse_attention.h over plain memory, one head of one sample at a time: once in
// AVX2, once in what the compiler makes of eight floats elsewhere.
//
// Scores are wanted for runs of neighbouring keys: eight at a time, from keys that lie channel by channel.
// Sums over keys are wanted for all channels of a key: eight at a time, from keys that lie token by token.
// So a head's keys and values are first copied into scratch the way each loop reads them. The head's weights,
// of every query for its window, stay in scratch between the passes: window x queries floats, for one head.
#ifndef MILLRACE_MODELS_SPARSE_ATTENTION_LOOPS_H_
#define MILLRACE_MODELS_SPARSE_ATTENTION_LOOPS_H_

#include <array>
#include <cstdint>
#include <vector>

namespace millrace {

// Always three axes; those that are absent have size 1. `window` is at most the size of the key grid.
struct SparseShape {
  using Axes = std::array<int64_t, 3>;
  Axes query{1, 1, 1}, key{1, 1, 1}, stride{1, 1, 1}, window{1, 1, 1};
  int64_t width = 1;  // channels of a head

  int64_t queries() const;
  int64_t keys() const;
  int64_t visible() const;  // keys of a window
  // Floats of scratch for a head.
  int64_t forward_floats() const;
  int64_t backward_floats() const;
};

// A shape as the loops read it: numbers and tables, no functions - those that several files share would be taken from
// any one of them, in its instruction set. A window is runs of keys, each padded to whole vectors of eight.
struct SparseTables {
  int64_t queries, keys, width, padded_keys, padded_width;
  int64_t runs, run_keys, run_vectors, vectors;
  std::array<int64_t, 3> query;
  const int64_t*
      starts[3];  // first visible key along an axis, by query, times the keys that one step is
  const int64_t* offsets;  // [vectors], from a query's first key
  const int32_t* masks;    // [run_vectors * 8]: -1 for keys of the window, 0 behind its end
};

// The tables of a shape, and their memory.
class SparseWindow {
 public:
  explicit SparseWindow(const SparseShape& shape);
  SparseWindow(const SparseWindow&) = delete;
  SparseWindow& operator=(const SparseWindow&) = delete;
  const SparseTables& tables() const { return tables_; }

 private:
  SparseTables tables_;
  std::vector<int64_t> starts_[3], offsets_;
  std::vector<int32_t> masks_;
};

// Rows of one head: row i begins at data + i * stride.
struct ConstRows {
  const float* data;
  int64_t stride;
};
struct Rows {
  float* data;
  int64_t stride;
};

struct SparseForwardArgs {
  ConstRows q, k, v;
  Rows y;
  float* logsumexp;  // [queries]
  float* sums;       // [keys], over queries, of their attention to the key
  float eps;
  float* scratch;  // forward_floats()
};

struct SparseBackwardArgs {
  ConstRows q, k, v, dy;
  const float* logsumexp;
  const float* sums;
  float eps;
  Rows dq, dk, dv;
  float* scratch;  // backward_floats()
};

struct SparseKernels {
  void (*forward)(const SparseTables& tables, const SparseForwardArgs& args);
  void (*backward)(const SparseTables& tables, const SparseBackwardArgs& args);
};

SparseKernels PlainSparseKernels();
SparseKernels Avx2SparseKernels();  // null functions where not compiled for x86-64

}  // namespace millrace

#endif  // MILLRACE_MODELS_SPARSE_ATTENTION_LOOPS_H_
