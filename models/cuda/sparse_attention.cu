// A group of lanes has one head of one token: four channels per lane, so that a group reads a row as vectors that lie
// one behind the other; neighbouring groups have neighbouring heads. Products of rows are summed over the group.
// Passes over queries walk the query's window; passes over keys walk the queries whose window has the key, which along
// each axis are neighbours, so nothing is added atomically.
//
// With A_ik = exp(s_ik - logsumexp_i), c_k = sum over i of A_ik, r_k = 1 / (c_k + eps):
//   forward: 1. logsumexp, by query, in one walk with a running maximum  2. c, by key  3. y_i = sum of A_ik r_k v_k
//   backward: 1. by key, g_k = sum of A_ik dy_i, dv_k = r_k g_k, dc_k = -r_k^2 (g_k . v_k)
//             2. by query, mean_i = sum of A_ik t_ik, t_ik = r_k (dy_i . v_k) + dc_k, and then
//                dq_i = sum of A_ik (t_ik - mean_i) k_k                3. by key, dk_k = sum of A_ik (t_ik - mean_i) q_i
#include "models/cuda/sparse_attention.h"
#include "ops/cuda/elements.cuh"
#include "ops/cuda/emulation/cuda_on_cpu.h"

namespace millrace {
namespace cuda {
namespace {

constexpr int kThreads = 256;

struct Axis {
  int32_t queries = 1, keys = 1, stride = 1, window = 1;

  // First key that the query sees.
  __device__ int32_t Start(int32_t query) const {
    const int64_t start = int64_t{query} * stride - window / 2;
    const int64_t most = keys - window;
    return static_cast<int32_t>(start < 0 ? 0 : start > most ? most : start);
  }
  // The queries that see the key: first, and one behind the last. Start never falls, so they are neighbours.
  __device__ int32_t FirstQuery(int32_t key) const {
    const int64_t least = int64_t{key} - window + 1;  // Start must be at least this
    if (least <= 0) return 0;
    const int64_t query = (least + window / 2 + stride - 1) / stride;
    return static_cast<int32_t>(query < queries ? query : queries);
  }
  __device__ int32_t EndQuery(int32_t key) const {
    if (key >= keys - window) return queries;
    const int64_t query = (int64_t{key} + window / 2) / stride + 1;
    return static_cast<int32_t>(query < queries ? query : queries);
  }
};

struct Problem {
  Axis axis[3];  // the last is the innermost
  int32_t queries = 1, keys = 1, heads = 1, width = 1;
  int64_t batch = 1;
  float eps = 0;
  bool reference = false;
  bool vectors = false;  // all rows may be read four channels at a time
  const void *q = nullptr, *k = nullptr, *v = nullptr, *dy = nullptr;
  void *y = nullptr, *dq = nullptr, *dk = nullptr, *dv = nullptr;
  float *logsumexp = nullptr, *sums = nullptr, *dsums = nullptr, *means = nullptr;
};

template <DType kType, int kLanes, int kVectors>
struct Lanes {
  // A row's channels, as far as this lane has them; zeros behind the last.
  struct Row {
    float4 x[kVectors];
  };

  const Problem& p;
  int lane;       // of the group
  unsigned mask;  // of the group's lanes in the warp
  int32_t token, head;
  int64_t sample;

  __device__ __forceinline__ explicit Lanes(const Problem& problem) : p(problem) {
    lane = static_cast<int>(threadIdx.x) % kLanes;
    const int first = static_cast<int>(threadIdx.x) % 32 / kLanes * kLanes;
    mask = kLanes == 32 ? 0xffffffffu : ((1u << (kLanes % 32)) - 1) << first;
  }
  // False: behind the last of all tokens' heads. The whole group, then.
  __device__ __forceinline__ bool Take(int32_t tokens) {
    int64_t index =
        blockIdx.x * int64_t{kThreads / kLanes} + static_cast<int>(threadIdx.x) / kLanes;
    head = static_cast<int32_t>(index % p.heads);
    index /= p.heads;
    token = static_cast<int32_t>(index % tokens);
    sample = index / tokens;
    return sample < p.batch;
  }

  // First element of a token's row, in q and k, and in v and y.
  __device__ __forceinline__ int64_t At(int32_t of, int32_t tokens) const {
    return ((sample * tokens + of) * p.heads + head) * p.width;
  }
  __device__ __forceinline__ int64_t ValueAt(int32_t of, int32_t tokens) const {
    if (!p.reference) return At(of, tokens);
    return ((sample * p.heads + head) * tokens + of) * p.width;
  }
  // Of a statistic [B, H, tokens].
  __device__ __forceinline__ int64_t StatisticAt(int32_t of, int32_t tokens) const {
    return (sample * p.heads + head) * tokens + of;
  }

  __device__ __forceinline__ Row Load(const void* x, int64_t at) const {
    Row row;
#pragma unroll
    for (int r = 0; r < kVectors; ++r) {
      const int c = (r * kLanes + lane) * 4;
      row.x[r] = {0, 0, 0, 0};
      if (p.vectors) {
        if (c < p.width) row.x[r] = Load4<kType>(x, at + c);
      } else {
        if (c < p.width) row.x[r].x = Load1<kType>(x, at + c);
        if (c + 1 < p.width) row.x[r].y = Load1<kType>(x, at + c + 1);
        if (c + 2 < p.width) row.x[r].z = Load1<kType>(x, at + c + 2);
        if (c + 3 < p.width) row.x[r].w = Load1<kType>(x, at + c + 3);
      }
    }
    return row;
  }
  __device__ __forceinline__ void Store(void* x, int64_t at, const Row& row) const {
#pragma unroll
    for (int r = 0; r < kVectors; ++r) {
      const int c = (r * kLanes + lane) * 4;
      if (p.vectors) {
        if (c < p.width) Store4<kType>(x, at + c, row.x[r]);
      } else {
        if (c < p.width) Store1<kType>(x, at + c, row.x[r].x);
        if (c + 1 < p.width) Store1<kType>(x, at + c + 1, row.x[r].y);
        if (c + 2 < p.width) Store1<kType>(x, at + c + 2, row.x[r].z);
        if (c + 3 < p.width) Store1<kType>(x, at + c + 3, row.x[r].w);
      }
    }
  }
  __device__ __forceinline__ static Row Zero() {
    Row row;
#pragma unroll
    for (int r = 0; r < kVectors; ++r) row.x[r] = {0, 0, 0, 0};
    return row;
  }
  // to += factor * x
  __device__ __forceinline__ static void Add(float factor, const Row& x, Row* to) {
#pragma unroll
    for (int r = 0; r < kVectors; ++r) {
      to->x[r].x = FusedMultiplyAdd(factor, x.x[r].x, to->x[r].x);
      to->x[r].y = FusedMultiplyAdd(factor, x.x[r].y, to->x[r].y);
      to->x[r].z = FusedMultiplyAdd(factor, x.x[r].z, to->x[r].z);
      to->x[r].w = FusedMultiplyAdd(factor, x.x[r].w, to->x[r].w);
    }
  }
  __device__ __forceinline__ static float LaneDot(const Row& a, const Row& b) {
    float sum = 0;
#pragma unroll
    for (int r = 0; r < kVectors; ++r) {
      sum = FusedMultiplyAdd(a.x[r].x, b.x[r].x, sum);
      sum = FusedMultiplyAdd(a.x[r].y, b.x[r].y, sum);
      sum = FusedMultiplyAdd(a.x[r].z, b.x[r].z, sum);
      sum = FusedMultiplyAdd(a.x[r].w, b.x[r].w, sum);
    }
    return sum;
  }
  // The same bits in all lanes of the group.
  __device__ __forceinline__ float Dot(const Row& a, const Row& b) const {
    float sum = LaneDot(a, b);
#pragma unroll
    for (int d = kLanes / 2; d > 0; d /= 2) sum += __shfl_xor_sync(mask, sum, d);
    return sum;
  }

  // f(key) for the keys that the token, a query, sees.
  template <typename F>
  __device__ __forceinline__ void ForKeys(const F& f) const {
    const Axis &a0 = p.axis[0], &a1 = p.axis[1], &a2 = p.axis[2];
    const int32_t plane = token / a2.queries;
    const int32_t s2 = a2.Start(token % a2.queries), s1 = a1.Start(plane % a1.queries),
                  s0 = a0.Start(plane / a1.queries);
    for (int32_t i0 = s0; i0 < s0 + a0.window; ++i0) {
      for (int32_t i1 = s1; i1 < s1 + a1.window; ++i1) {
        const int32_t line = (i0 * a1.keys + i1) * a2.keys;
        for (int32_t i2 = s2; i2 < s2 + a2.window; ++i2) f(line + i2);
      }
    }
  }
  // f(query) for the queries that see the token, a key.
  template <typename F>
  __device__ __forceinline__ void ForQueries(const F& f) const {
    const Axis &a0 = p.axis[0], &a1 = p.axis[1], &a2 = p.axis[2];
    const int32_t plane = token / a2.keys;
    const int32_t j2 = token % a2.keys, j1 = plane % a1.keys, j0 = plane / a1.keys;
    const int32_t begin1 = a1.FirstQuery(j1), end1 = a1.EndQuery(j1);
    const int32_t begin2 = a2.FirstQuery(j2), end2 = a2.EndQuery(j2);
    for (int32_t i0 = a0.FirstQuery(j0); i0 < a0.EndQuery(j0); ++i0) {
      for (int32_t i1 = begin1; i1 < end1; ++i1) {
        const int32_t line = (i0 * a1.queries + i1) * a2.queries;
        for (int32_t i2 = begin2; i2 < end2; ++i2) f(line + i2);
      }
    }
  }
};

// A key that no query sees has no weight either.
__device__ __forceinline__ float Reciprocal(float sum, float eps) {
  return sum > 0 ? 1.0f / (sum + eps) : 0.0f;
}

template <DType kType, int kLanes, int kVectors>
__global__ void __launch_bounds__(kThreads, 2) LogSumExpKernel(Problem p) {
  Lanes<kType, kLanes, kVectors> l(p);
  if (!l.Take(p.queries)) return;
  const auto q = l.Load(p.q, l.At(l.token, p.queries));
  float largest = -INFINITY, sum = 0;
  l.ForKeys([&](int32_t key) {
    const float score = l.Dot(q, l.Load(p.k, l.At(key, p.keys)));
    if (score > largest) {
      sum = sum * __expf(largest - score) + 1.0f;
      largest = score;
    } else {
      sum += __expf(score - largest);
    }
  });
  if (l.lane == 0) p.logsumexp[l.StatisticAt(l.token, p.queries)] = largest + logf(sum);
}

template <DType kType, int kLanes, int kVectors>
__global__ void __launch_bounds__(kThreads, 2) SumsKernel(Problem p) {
  Lanes<kType, kLanes, kVectors> l(p);
  if (!l.Take(p.keys)) return;
  const auto k = l.Load(p.k, l.At(l.token, p.keys));
  float sum = 0;
  l.ForQueries([&](int32_t query) {
    const float score = l.Dot(l.Load(p.q, l.At(query, p.queries)), k);
    sum += __expf(score - p.logsumexp[l.StatisticAt(query, p.queries)]);
  });
  if (l.lane == 0) p.sums[l.StatisticAt(l.token, p.keys)] = sum;
}

template <DType kType, int kLanes, int kVectors>
__global__ void __launch_bounds__(kThreads, 2) OutputKernel(Problem p) {
  Lanes<kType, kLanes, kVectors> l(p);
  if (!l.Take(p.queries)) return;
  const auto q = l.Load(p.q, l.At(l.token, p.queries));
  const float logsumexp = p.logsumexp[l.StatisticAt(l.token, p.queries)];
  auto y = l.Zero();
  l.ForKeys([&](int32_t key) {
    const float a = __expf(l.Dot(q, l.Load(p.k, l.At(key, p.keys))) - logsumexp);
    const float r = Reciprocal(p.sums[l.StatisticAt(key, p.keys)], p.eps);
    l.Add(a * r, l.Load(p.v, l.ValueAt(key, p.keys)), &y);
  });
  l.Store(p.y, l.ValueAt(l.token, p.queries), y);
}

template <DType kType, int kLanes, int kVectors>
__global__ void __launch_bounds__(kThreads, 2) ValueGradientKernel(Problem p) {
  Lanes<kType, kLanes, kVectors> l(p);
  if (!l.Take(p.keys)) return;
  const auto k = l.Load(p.k, l.At(l.token, p.keys));
  auto g = l.Zero();
  l.ForQueries([&](int32_t query) {
    const float score = l.Dot(l.Load(p.q, l.At(query, p.queries)), k);
    const float a = __expf(score - p.logsumexp[l.StatisticAt(query, p.queries)]);
    l.Add(a, l.Load(p.dy, l.ValueAt(query, p.queries)), &g);
  });
  const int64_t statistic = l.StatisticAt(l.token, p.keys);
  const float r = Reciprocal(p.sums[statistic], p.eps);
  const float dot = l.Dot(g, l.Load(p.v, l.ValueAt(l.token, p.keys)));
  auto dv = l.Zero();
  l.Add(r, g, &dv);
  l.Store(p.dv, l.ValueAt(l.token, p.keys), dv);
  if (l.lane == 0) p.dsums[statistic] = -r * r * dot;
}

template <DType kType, int kLanes, int kVectors>
__global__ void __launch_bounds__(kThreads, 2) QueryGradientKernel(Problem p) {
  Lanes<kType, kLanes, kVectors> l(p);
  if (!l.Take(p.queries)) return;
  const auto q = l.Load(p.q, l.At(l.token, p.queries));
  const auto dy = l.Load(p.dy, l.ValueAt(l.token, p.queries));
  const int64_t statistic = l.StatisticAt(l.token, p.queries);
  const float logsumexp = p.logsumexp[statistic];
  // f(A, t, the key's row)
  const auto walk = [&](const auto& f) {
    l.ForKeys([&](int32_t key) {
      const auto k = l.Load(p.k, l.At(key, p.keys));
      const float dot = l.Dot(dy, l.Load(p.v, l.ValueAt(key, p.keys)));
      const int64_t at = l.StatisticAt(key, p.keys);
      const float t = Reciprocal(p.sums[at], p.eps) * dot + p.dsums[at];
      f(__expf(l.Dot(q, k) - logsumexp), t, k);
    });
  };
  float mean = 0;
  walk([&](float a, float t, const auto&) { mean += a * t; });
  auto dq = l.Zero();
  walk([&](float a, float t, const auto& k) { l.Add(a * (t - mean), k, &dq); });
  l.Store(p.dq, l.At(l.token, p.queries), dq);
  if (l.lane == 0) p.means[statistic] = mean;
}

template <DType kType, int kLanes, int kVectors>
__global__ void __launch_bounds__(kThreads, 2) KeyGradientKernel(Problem p) {
  Lanes<kType, kLanes, kVectors> l(p);
  if (!l.Take(p.keys)) return;
  const auto k = l.Load(p.k, l.At(l.token, p.keys));
  const auto v = l.Load(p.v, l.ValueAt(l.token, p.keys));
  const int64_t statistic = l.StatisticAt(l.token, p.keys);
  const float r = Reciprocal(p.sums[statistic], p.eps), dsum = p.dsums[statistic];
  auto dk = l.Zero();
  l.ForQueries([&](int32_t query) {
    const int64_t at = l.StatisticAt(query, p.queries);
    const auto q = l.Load(p.q, l.At(query, p.queries));
    const float a = __expf(l.Dot(q, k) - p.logsumexp[at]);
    const float t = r * l.Dot(l.Load(p.dy, l.ValueAt(query, p.queries)), v) + dsum;
    l.Add(a * (t - p.means[at]), q, &dk);
  });
  l.Store(p.dk, l.At(l.token, p.keys), dk);
}

// A kernel over all heads of all tokens.
template <int kLanes>
const char* LaunchOver(void (*kernel)(Problem), const Problem& p, int32_t tokens, void* stream) {
  const int64_t groups = p.batch * tokens * p.heads, in_block = kThreads / kLanes;
  MR_LAUNCH(kernel, static_cast<unsigned>((groups + in_block - 1) / in_block), kThreads, 0, stream,
            p);
  return LaunchError();
}

template <DType kType, int kLanes, int kVectors>
const char* LaunchAll(const Problem& p, bool backward, void* stream) {
  struct Pass {
    void (*kernel)(Problem);
    int32_t tokens;
  };
  const Pass forward_passes[] = {{&LogSumExpKernel<kType, kLanes, kVectors>, p.queries},
                                 {&SumsKernel<kType, kLanes, kVectors>, p.keys},
                                 {&OutputKernel<kType, kLanes, kVectors>, p.queries}};
  const Pass backward_passes[] = {{&ValueGradientKernel<kType, kLanes, kVectors>, p.keys},
                                  {&QueryGradientKernel<kType, kLanes, kVectors>, p.queries},
                                  {&KeyGradientKernel<kType, kLanes, kVectors>, p.keys}};
  for (const Pass& pass : backward ? backward_passes : forward_passes) {
    if (const char* error = LaunchOver<kLanes>(pass.kernel, p, pass.tokens, stream)) return error;
  }
  return nullptr;
}

template <DType kType>
const char* LaunchType(Problem p, bool backward, void* stream) {
  p.vectors = p.width % 4 == 0;
  for (const void* x :
       {p.q, p.k, p.v, p.dy, static_cast<const void*>(p.y), static_cast<const void*>(p.dq),
        static_cast<const void*>(p.dk), static_cast<const void*>(p.dv)}) {
    p.vectors = p.vectors && reinterpret_cast<uintptr_t>(x) % (4 * kElementBytes<kType>) == 0;
  }
  if (p.width <= 16) return LaunchAll<kType, 4, 1>(p, backward, stream);
  if (p.width <= 32) return LaunchAll<kType, 8, 1>(p, backward, stream);
  if (p.width <= 64) return LaunchAll<kType, 16, 1>(p, backward, stream);
  return LaunchAll<kType, 32, 4>(p, backward, stream);
}

const char* Launch(const SparseAttentionShape& s, DType type, Problem p, bool backward,
                   void* stream) {
  if (s.axes < 1 || s.axes > 3) return "a neighbourhood has one to three axes";
  if (s.width < 1 || s.width > 512) return "a head has 1 to 512 channels";
  for (int a = 0; a < s.axes; ++a) {
    if (s.query[a] < 1 || s.key[a] < 1 || s.stride[a] < 1 || s.window[a] < 1) {
      return "grids, strides and windows are at least 1";
    }
    Axis& axis = p.axis[a + 3 - s.axes];
    axis.queries = s.query[a], axis.keys = s.key[a], axis.stride = s.stride[a];
    axis.window = s.window[a] < s.key[a] ? s.window[a] : s.key[a];
  }
  const auto product = [&p](auto member) {
    return int64_t{p.axis[0].*member} * (p.axis[1].*member) * (p.axis[2].*member);
  };
  const int64_t queries = product(&Axis::queries), keys = product(&Axis::keys);
  const int64_t most = int64_t{1} << 31;
  if (queries >= most || keys >= most) return "a grid has 2^31 places at most";
  p.queries = static_cast<int32_t>(queries), p.keys = static_cast<int32_t>(keys);
  p.heads = static_cast<int32_t>(s.heads), p.width = s.width, p.batch = s.batch;
  p.eps = s.eps, p.reference = s.reference_layout;
  if (s.batch < 1 || s.heads < 1) return nullptr;  // nothing to do
  switch (type) {
    case DType::kF32:
      return LaunchType<DType::kF32>(p, backward, stream);
    case DType::kBF16:
      return LaunchType<DType::kBF16>(p, backward, stream);
    case DType::kF16:
      return LaunchType<DType::kF16>(p, backward, stream);
    default:
      return "sparse attention takes f32, bf16 or f16";
  }
}

}  // namespace

const char* SparseAttentionForward(const SparseAttentionShape& shape, DType type,
                                   const SparseAttentionForwardArgs& a, void* stream) {
  Problem p;
  p.q = a.q, p.k = a.k, p.v = a.v, p.y = a.y;
  p.logsumexp = a.logsumexp, p.sums = a.sums;
  return Launch(shape, type, p, /*backward=*/false, stream);
}

const char* SparseAttentionBackward(const SparseAttentionShape& shape, DType type,
                                    const SparseAttentionBackwardArgs& a, void* stream) {
  Problem p;
  p.q = a.q, p.k = a.k, p.v = a.v, p.dy = a.dy;
  p.dq = a.dq, p.dk = a.dk, p.dv = a.dv;
  // Read only: one structure serves both directions.
  p.logsumexp = const_cast<float*>(a.logsumexp), p.sums = const_cast<float*>(a.sums);
  p.means = a.scratch, p.dsums = a.scratch + shape.logsumexp_floats();
  return Launch(shape, type, p, /*backward=*/true, stream);
}

}  // namespace cuda
}  // namespace millrace
