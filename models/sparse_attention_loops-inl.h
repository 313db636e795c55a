// The loops of sparse_attention_loops.h on vectors of eight floats, for the files that compile them, each for
// another instruction set. GCC's and Clang's vector types: no intrinsics, and no templates of the standard library,
// which the linker would take from any one of these files.
//
//   y_i = sum over k of A_ik r_k v_k,   A_ik = exp(s_ik - logsumexp_i),  r_k = 1 / (c_k + eps),  c_k = sum over i of A_ik
//
// and with g_k = sum over i of A_ik dy_i:
//
//   dv_k = r_k g_k        dc_k = -r_k^2 (g_k . v_k)        t_ik = r_k (dy_i . v_k) + dc_k
//   ds_ik = A_ik (t_ik - sum over j of A_ij t_ij)
//   dq_i = sum over k of ds_ik k_k                         dk_k = sum over i of ds_ik q_i
#ifndef MILLRACE_MODELS_SPARSE_ATTENTION_LOOPS_INL_H_
#define MILLRACE_MODELS_SPARSE_ATTENTION_LOOPS_INL_H_

#include <cstring>

#include "models/sparse_attention_loops.h"

namespace millrace {
namespace {

#define MILLRACE_INLINE inline __attribute__((always_inline))

constexpr int64_t kLanes = 8;
typedef float Float8 __attribute__((vector_size(32)));
typedef int32_t Int8 __attribute__((vector_size(32)));

MILLRACE_INLINE Float8 Load(const float* p) {
  Float8 x;
  std::memcpy(&x, p, sizeof(x));
  return x;
}
MILLRACE_INLINE void Store(float* p, Float8 x) { std::memcpy(p, &x, sizeof(x)); }
MILLRACE_INLINE Float8 Set(float x) { return Float8{x, x, x, x, x, x, x, x}; }
MILLRACE_INLINE Float8 Max(Float8 a, Float8 b) { return a > b ? a : b; }

MILLRACE_INLINE float LanesMax(Float8 x) {
  x = Max(x, __builtin_shuffle(x, Int8{4, 5, 6, 7, 0, 1, 2, 3}));
  x = Max(x, __builtin_shuffle(x, Int8{2, 3, 0, 1, 6, 7, 4, 5}));
  return x[0] > x[1] ? x[0] : x[1];
}
MILLRACE_INLINE float LanesSum(Float8 x) {
  x += __builtin_shuffle(x, Int8{4, 5, 6, 7, 0, 1, 2, 3});
  x += __builtin_shuffle(x, Int8{2, 3, 0, 1, 6, 7, 4, 5});
  return x[0] + x[1];
}

// exp(x) for x <= 88, to about two units in the last place: 2^n times a polynomial within half a power of two
// (Cephes' coefficients). Below -87.3 the smallest normal number.
MILLRACE_INLINE Float8 Exp(Float8 x) {
  x = Max(x, Set(-87.3f));
  const Float8 magic = Set(12582912.0f);  // its last bit counts ones
  const Float8 n = (x * 1.44269504f + magic) - magic;
  const Float8 r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Float8 p = Set(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Int8 exponent = (__builtin_convertvector(n, Int8) + 127) << 23;
  Float8 scale;
  std::memcpy(&scale, &exponent, sizeof(scale));
  return p * scale;
}

// x where the lane is a key of the window, `otherwise` elsewhere.
MILLRACE_INLINE Float8 Select(const SparseTables& s, int64_t vector, Float8 x, Float8 otherwise) {
  Int8 mask;
  std::memcpy(&mask, s.masks + vector % s.run_vectors * kLanes, sizeof(mask));
  return mask ? x : otherwise;
}

// f(query, its first key)
template <typename F>
MILLRACE_INLINE void ForQueries(const SparseTables& s, const F& f) {
  int64_t i = 0;
  for (int64_t i0 = 0; i0 < s.query[0]; ++i0) {
    for (int64_t i1 = 0; i1 < s.query[1]; ++i1) {
      const int64_t line = s.starts[0][i0] + s.starts[1][i1];
      for (int64_t i2 = 0; i2 < s.query[2]; ++i2) f(i++, line + s.starts[2][i2]);
    }
  }
}

MILLRACE_INLINE int64_t Least(int64_t a, int64_t b) { return a < b ? a : b; }
MILLRACE_INLINE void Zero(float* p, int64_t n) {
  std::memset(p, 0, static_cast<size_t>(n) * sizeof(float));
}
MILLRACE_INLINE void Copy(const float* from, int64_t n, float* to) {
  std::memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
}

// out[v] = x . keys, of kVectors vectors of keys. `keys` lie channel by channel.
template <int kVectors>
MILLRACE_INLINE void DotsOf(const float* x, int64_t width, const float* keys, int64_t stride,
                            const int64_t* offsets, float* out) {
  Float8 sums[kVectors] = {};
  for (int64_t c = 0; c < width; ++c, keys += stride) {
    const Float8 factor = Set(x[c]);
    for (int v = 0; v < kVectors; ++v) sums[v] += factor * Load(keys + offsets[v]);
  }
  for (int v = 0; v < kVectors; ++v) Store(out + v * kLanes, sums[v]);
}

void Dots(const float* x, int64_t width, const float* keys, int64_t stride, const int64_t* offsets,
          int64_t vectors, float* out) {
  for (; vectors >= 8; vectors -= 8, offsets += 8, out += 8 * kLanes) {
    DotsOf<8>(x, width, keys, stride, offsets, out);
  }
  switch (vectors) {
    case 7:
      return DotsOf<7>(x, width, keys, stride, offsets, out);
    case 6:
      return DotsOf<6>(x, width, keys, stride, offsets, out);
    case 5:
      return DotsOf<5>(x, width, keys, stride, offsets, out);
    case 4:
      return DotsOf<4>(x, width, keys, stride, offsets, out);
    case 3:
      return DotsOf<3>(x, width, keys, stride, offsets, out);
    case 2:
      return DotsOf<2>(x, width, keys, stride, offsets, out);
    case 1:
      return DotsOf<1>(x, width, keys, stride, offsets, out);
    default:
      return;
  }
}

// Calls f with the weight and the place, from `first`, of every key of a window.
template <typename F>
MILLRACE_INLINE void ForKeys(const SparseTables& s, const int64_t* offsets, const float* weights,
                             const F& f) {
  for (int64_t run = 0; run < s.runs; ++run) {
    const int64_t key = offsets[run * s.run_vectors];
    const float* w = weights + run * s.run_vectors * kLanes;
    for (int64_t j = 0; j < s.run_keys; ++j) f(w[j], key + j);
  }
}

// sums[0 .. kVectors) = the weighted sum of the window's rows. Even and odd keys apart: shorter chains of additions.
template <int kVectors>
MILLRACE_INLINE void WeightedSumOf(const SparseTables& s, const int64_t* offsets,
                                   const float* weights, const float* rows, float* out) {
  const int64_t stride = s.padded_width;
  Float8 even[kVectors] = {}, odd[kVectors] = {};
  for (int64_t run = 0; run < s.runs; ++run) {
    const float* row = rows + offsets[run * s.run_vectors] * stride;
    const float* w = weights + run * s.run_vectors * kLanes;
    int64_t j = 0;
    for (; j + 1 < s.run_keys; j += 2, row += 2 * stride) {
      const Float8 a = Set(w[j]), b = Set(w[j + 1]);
      for (int v = 0; v < kVectors; ++v) even[v] += a * Load(row + v * kLanes);
      for (int v = 0; v < kVectors; ++v) odd[v] += b * Load(row + stride + v * kLanes);
    }
    if (j < s.run_keys) {
      const Float8 a = Set(w[j]);
      for (int v = 0; v < kVectors; ++v) even[v] += a * Load(row + v * kLanes);
    }
  }
  for (int v = 0; v < kVectors; ++v) Store(out + v * kLanes, even[v] + odd[v]);
}

// to[0 .. width) = the weighted sum of the rows of the window whose first row is `rows`.
void WeightedSum(const SparseTables& s, const int64_t* offsets, const float* weights,
                 const float* rows, float* to) {
  float part[4 * kLanes];
  for (int64_t c = 0; c < s.width; c += 4 * kLanes) {
    const int64_t left = s.padded_width - c;
    if (left >= 4 * kLanes) {
      WeightedSumOf<4>(s, offsets, weights, rows + c, part);
    } else if (left == 3 * kLanes) {
      WeightedSumOf<3>(s, offsets, weights, rows + c, part);
    } else if (left == 2 * kLanes) {
      WeightedSumOf<2>(s, offsets, weights, rows + c, part);
    } else {
      WeightedSumOf<1>(s, offsets, weights, rows + c, part);
    }
    const int64_t n = Least(4 * kLanes, s.width - c);
    Copy(part, n, to + c);
  }
}

// Each row of the window += weight * x [padded_width].
template <int kVectors>
MILLRACE_INLINE void SpreadOf(const SparseTables& s, const int64_t* offsets, const float* weights,
                              const float* x, float* rows) {
  Float8 values[kVectors];
  for (int v = 0; v < kVectors; ++v) values[v] = Load(x + v * kLanes);
  ForKeys(s, offsets, weights, [&](float weight, int64_t key) {
    const Float8 factor = Set(weight);
    float* row = rows + key * s.padded_width;
    for (int v = 0; v < kVectors; ++v) {
      Store(row + v * kLanes, Load(row + v * kLanes) + factor * values[v]);
    }
  });
}
void Spread(const SparseTables& s, const int64_t* offsets, const float* weights, const float* x,
            float* rows) {
  float part[2 * kLanes];
  for (int64_t c = 0; c < s.width; c += 2 * kLanes) {
    const int64_t n = Least(2 * kLanes, s.width - c);
    Zero(part, 2 * kLanes);
    Copy(x + c, n, part);
    if (s.padded_width - c >= 2 * kLanes) {
      SpreadOf<2>(s, offsets, weights, part, rows + c);
    } else {
      SpreadOf<1>(s, offsets, weights, part, rows + c);
    }
  }
}

// Memory handed out front to back.
class Scratch {
 public:
  explicit Scratch(float* p) : p_(p) {}
  float* Take(int64_t n) {
    float* p = p_;
    p_ += n;
    return p;
  }

 private:
  float* p_;
};

// Rows times factor [keys] (none: 1), channel by channel; the lanes after the last key are zero.
void ByChannel(const SparseTables& s, const ConstRows& rows, const float* factor, float* to) {
  const int64_t stride = s.padded_keys;
  for (int64_t c = 0; c < s.width; ++c) Zero(to + c * stride + s.keys, kLanes);
  for (int64_t first = 0; first < s.keys; first += 16) {  // a cache line of each channel
    const int64_t last = Least(s.keys, first + 16);
    for (int64_t c = 0; c < s.width; ++c) {
      for (int64_t j = first; j < last; ++j) {
        const float x = rows.data[j * rows.stride + c];
        to[c * stride + j] = factor == nullptr ? x : x * factor[j];
      }
    }
  }
}

// Rows times factor, token by token; the channels after the last are zero.
void ByToken(const SparseTables& s, const ConstRows& rows, const float* factor, float* to) {
  for (int64_t j = 0; j < s.keys; ++j, to += s.padded_width) {
    const float* row = rows.data + j * rows.stride;
    const float f = factor == nullptr ? 1.0f : factor[j];
    for (int64_t c = 0; c < s.width; ++c) to[c] = row[c] * f;
    Zero(to + s.width, s.padded_width - s.width);
  }
}

// A key that no query sees has no weight either.
float Reciprocal(float sum, float eps) { return sum > 0 ? 1.0f / (sum + eps) : 0.0f; }

void Forward(const SparseTables& s, const SparseForwardArgs& a) {
  const int64_t *offsets = s.offsets, vectors = s.vectors;
  Scratch scratch(a.scratch);
  float* weights = scratch.Take(s.queries * vectors * kLanes);
  float* keys = scratch.Take(s.width * s.padded_keys);
  float* values = scratch.Take(s.keys * s.padded_width);
  float* sums = scratch.Take(s.padded_keys);
  ByChannel(s, a.k, nullptr, keys);
  Zero(sums, s.padded_keys);
  const Float8 lowest = Set(-__builtin_inff());
  ForQueries(s, [&](int64_t i, int64_t first) {
    float* w = weights + i * vectors * kLanes;
    Dots(a.q.data + i * a.q.stride, s.width, keys + first, s.padded_keys, offsets, vectors, w);
    Float8 largest = lowest;
    for (int64_t v = 0; v < vectors; ++v) {
      largest = Max(Select(s, v, Load(w + v * kLanes), lowest), largest);
    }
    const float max = LanesMax(largest);
    Float8 total = {};
    for (int64_t v = 0; v < vectors; ++v) {
      const Float8 e = Select(s, v, Exp(Load(w + v * kLanes) - max), Float8{});
      total += e;
      Store(w + v * kLanes, e);
    }
    const float sum = LanesSum(total);
    a.logsumexp[i] = max + __builtin_logf(sum);
    const Float8 share = Set(1.0f / sum);
    for (int64_t v = 0; v < vectors; ++v) {
      const Float8 p = Load(w + v * kLanes) * share;
      Store(w + v * kLanes, p);
      float* c = sums + first + offsets[v];
      Store(c, Load(c) + p);
    }
  });
  Copy(sums, s.keys, a.sums);
  for (int64_t j = 0; j < s.keys; ++j) sums[j] = Reciprocal(sums[j], a.eps);
  ByToken(s, a.v, sums, values);
  ForQueries(s, [&](int64_t i, int64_t first) {
    WeightedSum(s, offsets, weights + i * vectors * kLanes, values + first * s.padded_width,
                a.y.data + i * a.y.stride);
  });
}

// dv and dc from g, which is [keys, padded_width]; dc takes the place of the reciprocals.
void ValueGradients(const SparseTables& s, const SparseBackwardArgs& a, const float* g,
                    float* reciprocals) {
  for (int64_t j = 0; j < s.keys; ++j, g += s.padded_width) {
    const float* v = a.v.data + j * a.v.stride;
    float* dv = a.dv.data + j * a.dv.stride;
    const float r = reciprocals[j];
    float dot = 0;
    for (int64_t c = 0; c < s.width; ++c) dot += g[c] * v[c];
    for (int64_t c = 0; c < s.width; ++c) dv[c] = r * g[c];
    reciprocals[j] = -r * r * dot;
  }
}

void Backward(const SparseTables& s, const SparseBackwardArgs& a) {
  const int64_t *offsets = s.offsets, vectors = s.vectors;
  Scratch scratch(a.scratch);
  float* weights = scratch.Take(s.queries * vectors * kLanes);
  float* dweights = scratch.Take(vectors * kLanes);  // of one query
  float* keys = scratch.Take(s.width * s.padded_keys);
  float* values = scratch.Take(s.width * s.padded_keys);
  float* key_rows = scratch.Take(s.keys * s.padded_width);
  float* rows = scratch.Take(s.keys * s.padded_width);  // g, then dk
  float* per_key = scratch.Take(s.padded_keys);         // r, then dc
  for (int64_t j = 0; j < s.keys; ++j) per_key[j] = Reciprocal(a.sums[j], a.eps);
  Zero(per_key + s.keys, kLanes);
  ByChannel(s, a.k, nullptr, keys);
  ByChannel(s, a.v, per_key, values);
  ByToken(s, a.k, nullptr, key_rows);
  Zero(rows, s.keys * s.padded_width);
  ForQueries(s, [&](int64_t i, int64_t first) {
    float* w = weights + i * vectors * kLanes;
    Dots(a.q.data + i * a.q.stride, s.width, keys + first, s.padded_keys, offsets, vectors, w);
    const Float8 logsumexp = Set(a.logsumexp[i]);
    for (int64_t v = 0; v < vectors; ++v) {
      Store(w + v * kLanes, Select(s, v, Exp(Load(w + v * kLanes) - logsumexp), Float8{}));
    }
    Spread(s, offsets, w, a.dy.data + i * a.dy.stride, rows + first * s.padded_width);
  });
  ValueGradients(s, a, rows, per_key);
  Zero(rows, s.keys * s.padded_width);
  ForQueries(s, [&](int64_t i, int64_t first) {
    float* w = weights + i * vectors * kLanes;
    Dots(a.dy.data + i * a.dy.stride, s.width, values + first, s.padded_keys, offsets, vectors,
         dweights);
    Float8 total = {};
    for (int64_t v = 0; v < vectors; ++v) {
      const Float8 t = Load(dweights + v * kLanes) + Load(per_key + first + offsets[v]);
      total += Select(s, v, Load(w + v * kLanes) * t, Float8{});
      Store(dweights + v * kLanes, t);
    }
    const Float8 mean = Set(LanesSum(total));
    for (int64_t v = 0; v < vectors; ++v) {
      Store(w + v * kLanes, Load(w + v * kLanes) * (Load(dweights + v * kLanes) - mean));
    }
    WeightedSum(s, offsets, w, key_rows + first * s.padded_width, a.dq.data + i * a.dq.stride);
    Spread(s, offsets, w, a.q.data + i * a.q.stride, rows + first * s.padded_width);
  });
  for (int64_t j = 0; j < s.keys; ++j) {
    Copy(rows + j * s.padded_width, s.width, a.dk.data + j * a.dk.stride);
  }
}

}  // namespace
}  // namespace millrace

#endif  // MILLRACE_MODELS_SPARSE_ATTENTION_LOOPS_INL_H_
