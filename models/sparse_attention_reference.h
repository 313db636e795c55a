// Sparse grouping attention in the simplest loops, in double: what the vector kernel is compared with.
//
//   SparseReference r{.query_grid = {3, 3}, .key_grid = {9, 9}, .stride = {3, 3}, .window = {3, 3}, .heads = 2, .width = 4};
//   std::vector<double> y = r.Forward(q, k, v);           // memory as in models/sparse_attention.h
//   SparseReference::Gradients g = r.Backward(q, k, v, dy);
#ifndef MILLRACE_MODELS_SPARSE_ATTENTION_REFERENCE_H_
#define MILLRACE_MODELS_SPARSE_ATTENTION_REFERENCE_H_

#include <cstdint>
#include <vector>

namespace millrace {

struct SparseReference {
  using Values = std::vector<double>;
  struct Gradients {
    Values q, k, v;
  };

  std::vector<int64_t> query_grid, key_grid, stride, window;
  int64_t batch = 1, heads = 1, width = 1;
  bool reference_layout = false;
  double eps = 1.1920929e-7;

  bool Sees(int64_t query, int64_t key) const;
  Values Forward(const Values& q, const Values& k, const Values& v) const;
  Gradients Backward(const Values& q, const Values& k, const Values& v, const Values& dy) const;

 private:
  int64_t queries() const;
  int64_t keys() const;
  // Softmax over the keys that a query sees, 0 elsewhere: [queries, keys].
  Values Attention(const Values& q, const Values& k, int64_t sample, int64_t head) const;
  // Where channel c of a head lies in [batch, tokens, heads, width], and in v and y.
  int64_t At(int64_t sample, int64_t token, int64_t head, int64_t c, int64_t tokens) const;
  int64_t ValueAt(int64_t sample, int64_t token, int64_t head, int64_t c, int64_t tokens) const;
};

}  // namespace millrace

#endif  // MILLRACE_MODELS_SPARSE_ATTENTION_REFERENCE_H_
