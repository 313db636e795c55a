#include "models/sparse_attention_loops.h"

#include <algorithm>

namespace millrace {
namespace {

constexpr int64_t kLanes = 8;

int64_t Product(const SparseShape::Axes& a) { return a[0] * a[1] * a[2]; }
int64_t Vectors(int64_t n) { return (n + kLanes - 1) / kLanes; }

int64_t WeightFloats(const SparseShape& s) {
  return s.window[0] * s.window[1] * Vectors(s.window[2]) * kLanes;
}

}  // namespace

int64_t SparseShape::queries() const { return Product(query); }
int64_t SparseShape::keys() const { return Product(key); }
int64_t SparseShape::visible() const { return Product(window); }

int64_t SparseShape::forward_floats() const {
  return queries() * WeightFloats(*this) + (width + 1) * (keys() + kLanes) +
         keys() * Vectors(width) * kLanes;
}
int64_t SparseShape::backward_floats() const {
  return (queries() + 1) * WeightFloats(*this) + (2 * width + 1) * (keys() + kLanes) +
         2 * keys() * Vectors(width) * kLanes;
}

SparseWindow::SparseWindow(const SparseShape& s) {
  SparseTables& t = tables_;
  t.queries = s.queries(), t.keys = s.keys(), t.width = s.width;
  t.padded_keys = s.keys() + kLanes, t.padded_width = Vectors(s.width) * kLanes;
  t.runs = s.window[0] * s.window[1], t.run_keys = s.window[2];
  t.run_vectors = Vectors(s.window[2]), t.vectors = t.runs * t.run_vectors;
  t.query = s.query;
  const int64_t step[3] = {s.key[1] * s.key[2], s.key[2], 1};
  for (size_t a = 0; a < 3; ++a) {
    for (int64_t i = 0; i < s.query[a]; ++i) {
      const int64_t start = i * s.stride[a] - s.window[a] / 2;
      starts_[a].push_back(std::clamp(start, int64_t{0}, s.key[a] - s.window[a]) * step[a]);
    }
    t.starts[a] = starts_[a].data();
  }
  for (int64_t run = 0; run < t.runs; ++run) {
    const int64_t line = run / s.window[1] * step[0] + run % s.window[1] * step[1];
    for (int64_t v = 0; v < t.run_vectors; ++v) offsets_.push_back(line + v * kLanes);
  }
  t.offsets = offsets_.data();
  for (int64_t i = 0; i < t.run_vectors * kLanes; ++i) masks_.push_back(i < t.run_keys ? -1 : 0);
  t.masks = masks_.data();
}

}  // namespace millrace
