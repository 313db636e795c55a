#include "models/sparse_attention_reference.h"

#include <algorithm>
#include <cmath>

namespace millrace {
namespace {

int64_t Product(const std::vector<int64_t>& v) {
  int64_t p = 1;
  for (const int64_t x : v) p *= x;
  return p;
}

}  // namespace

int64_t SparseReference::queries() const { return Product(query_grid); }
int64_t SparseReference::keys() const { return Product(key_grid); }

bool SparseReference::Sees(int64_t query, int64_t key) const {
  for (size_t a = key_grid.size(); a-- > 0;) {
    const int64_t i = query % query_grid[a], j = key % key_grid[a];
    query /= query_grid[a], key /= key_grid[a];
    const int64_t w = std::min(window[a], key_grid[a]);
    const int64_t start = std::clamp(i * stride[a] - w / 2, int64_t{0}, key_grid[a] - w);
    if (j < start || j >= start + w) return false;
  }
  return true;
}

int64_t SparseReference::At(int64_t sample, int64_t token, int64_t head, int64_t c,
                            int64_t tokens) const {
  return ((sample * tokens + token) * heads + head) * width + c;
}
int64_t SparseReference::ValueAt(int64_t sample, int64_t token, int64_t head, int64_t c,
                                 int64_t tokens) const {
  if (!reference_layout) return At(sample, token, head, c, tokens);
  return ((sample * heads + head) * tokens + token) * width + c;
}

SparseReference::Values SparseReference::Attention(const Values& q, const Values& k, int64_t sample,
                                                   int64_t head) const {
  Values attention(static_cast<size_t>(queries() * keys()));
  for (int64_t i = 0; i < queries(); ++i) {
    double* row = attention.data() + i * keys();
    double largest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < keys(); ++j) {
      row[j] = Sees(i, j) ? 0 : -INFINITY;
      for (int64_t c = 0; c < width; ++c) {
        row[j] += q[At(sample, i, head, c, queries())] * k[At(sample, j, head, c, keys())];
      }
      largest = std::max(largest, row[j]);
    }
    for (int64_t j = 0; j < keys(); ++j) sum += row[j] = std::exp(row[j] - largest);
    for (int64_t j = 0; j < keys(); ++j) row[j] /= sum;
  }
  return attention;
}

SparseReference::Values SparseReference::Forward(const Values& q, const Values& k,
                                                 const Values& v) const {
  Values y(q.size());
  for (int64_t job = 0; job < batch * heads; ++job) {
    const int64_t b = job / heads, h = job % heads;
    const Values attention = Attention(q, k, b, h);
    for (int64_t j = 0; j < keys(); ++j) {
      double sum = eps;
      for (int64_t i = 0; i < queries(); ++i) sum += attention[i * keys() + j];
      for (int64_t i = 0; i < queries(); ++i) {
        for (int64_t c = 0; c < width; ++c) {
          y[ValueAt(b, i, h, c, queries())] +=
              attention[i * keys() + j] / sum * v[ValueAt(b, j, h, c, keys())];
        }
      }
    }
  }
  return y;
}

SparseReference::Gradients SparseReference::Backward(const Values& q, const Values& k,
                                                     const Values& v, const Values& dy) const {
  Gradients g{Values(q.size()), Values(k.size()), Values(v.size())};
  for (int64_t job = 0; job < batch * heads; ++job) {
    const int64_t b = job / heads, h = job % heads;
    const Values attention = Attention(q, k, b, h);
    Values dattention(attention.size());  // through the division by the sum, too
    for (int64_t j = 0; j < keys(); ++j) {
      double sum = eps, dsum = 0;
      for (int64_t i = 0; i < queries(); ++i) sum += attention[i * keys() + j];
      for (int64_t i = 0; i < queries(); ++i) {
        const double a = attention[i * keys() + j];
        double dot = 0;
        for (int64_t c = 0; c < width; ++c) {
          const double dyi = dy[ValueAt(b, i, h, c, queries())];
          dot += dyi * v[ValueAt(b, j, h, c, keys())];
          g.v[ValueAt(b, j, h, c, keys())] += a / sum * dyi;
        }
        dattention[i * keys() + j] = dot / sum;
        dsum -= a * dot / (sum * sum);
      }
      for (int64_t i = 0; i < queries(); ++i) dattention[i * keys() + j] += dsum;
    }
    for (int64_t i = 0; i < queries(); ++i) {
      double mean = 0;
      for (int64_t j = 0; j < keys(); ++j) {
        mean += attention[i * keys() + j] * dattention[i * keys() + j];
      }
      for (int64_t j = 0; j < keys(); ++j) {
        const double ds = attention[i * keys() + j] * (dattention[i * keys() + j] - mean);
        for (int64_t c = 0; c < width; ++c) {
          g.q[At(b, i, h, c, queries())] += ds * k[At(b, j, h, c, keys())];
          g.k[At(b, j, h, c, keys())] += ds * q[At(b, i, h, c, queries())];
        }
      }
    }
  }
  return g;
}

}  // namespace millrace
