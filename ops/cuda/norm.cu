// A warp takes 1024 elements at a time, as ops/exact_norm.cc does: 32 of each lane, all of them on their way at once.
// Squares are split on the four grids in double, exactly, and added up as integers.
#include "ops/clip_factor.h"
#include "ops/cuda/elements.cuh"
#include "ops/cuda/emulation/cuda_on_cpu.h"
#include "ops/cuda/norm.h"
#include "ops/exact_norm_value.h"

namespace millrace {
namespace cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32, kWarpElements = 1024, kLaneElements = 32;
static_assert(kWarps * kWarpElements == kChunkElements, "");
constexpr unsigned kAllLanes = 0xffffffffu;
// As many blocks as a large device runs at once; more when a block's sums could leave 64 bits: 64 chunks of the largest
// elements are below 2^62.
constexpr int64_t kBlocks = 1056, kChunksOfABlock = 64;

// to (128 bits) += x. Whoever carries, the sum of all is the same.
__device__ void Add128(int64_t* to, int64_t x) {
  if (x == 0) return;
  auto* words = reinterpret_cast<unsigned long long*>(to);
  const auto low = static_cast<unsigned long long>(x);
  const unsigned long long carry = atomicAdd(&words[0], low) + low < low ? 1 : 0;
  const unsigned long long high = (x < 0 ? ~0ull : 0ull) + carry;
  if (high != 0) atomicAdd(&words[1], high);
}

// Grids above kFirst are known to get nothing.
template <int kFirst>
__device__ __forceinline__ void SumSquares(const float* x, int64_t* bins) {
  constexpr int kQuantum[kNormBins] = {37, -6, -49, -92};
  double sums[kNormBins] = {};
#pragma unroll
  for (int i = 0; i < kLaneElements; ++i) {
    const auto v = static_cast<double>(x[i]);
    double rest = __dmul_rn(v, v);
#pragma unroll
    for (int b = kFirst; b < kNormBins; ++b) {
      const double magic = 1.5 * PowerOfTwo(52 + kQuantum[b]);
      const double multiple = __dsub_rn(__dadd_rn(rest, magic), magic);
      rest = __dsub_rn(rest, multiple);
      sums[b] = __dadd_rn(sums[b], multiple);
    }
  }
#pragma unroll
  for (int b = kFirst; b < kNormBins; ++b)
    bins[b] += static_cast<int64_t>(__dmul_rn(sums[b], PowerOfTwo(-kQuantum[b])));
}

// The lane's share of up to 1024 elements; zeros behind the end.
template <DType kType>
__device__ __forceinline__ void LoadShare(const void* x, int64_t begin, int64_t count, int lane,
                                          float* out) {
  if (count == kWarpElements && IsAligned4(x, begin, kElementBytes<kType>)) {
#pragma unroll
    for (int k = 0; k < kLaneElements; k += 4) {
      const float4 four = Load4<kType>(x, begin + k * 32 + lane * 4);
      out[k] = four.x, out[k + 1] = four.y, out[k + 2] = four.z, out[k + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int k = 0; k < kLaneElements; ++k) {
      const int i = k * 32 + lane;
      out[k] = i < count ? Load1<kType>(x, begin + i) : 0.0f;
    }
  }
}

template <DType kType>
__global__ void __launch_bounds__(kThreads) NormKernel(NormLaunch a) {
  constexpr uint32_t kInfinity = 0x7f800000, kLarge = 0x53800000;  // 2^40
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  int64_t bins[kNormBins] = {};
  int64_t infinities = 0, nans = 0;
  for (int64_t c = blockIdx.x; c < a.chunk_count; c += gridDim.x) {
    const Chunk chunk = a.chunks[c];
    const int64_t left = chunk.count - warp * kWarpElements;
    if (left <= 0) continue;
    float x[kLaneElements];
    LoadShare<kType>(a.ranges[chunk.item].x, chunk.begin + warp * kWarpElements,
                     left < kWarpElements ? left : kWarpElements, lane, x);
    uint32_t top = 0;
#pragma unroll
    for (int i = 0; i < kLaneElements; ++i) {
      const uint32_t magnitude = BitsAs<uint32_t>(x[i]) & 0x7fffffff;
      top = magnitude > top ? magnitude : top;
    }
    top = __reduce_max_sync(kAllLanes, top);
    if (top >= kLarge) {  // of these elements only what is wrong with them is counted
      int wrong = 0;
#pragma unroll
      for (int i = 0; i < kLaneElements; ++i) {
        const uint32_t magnitude = BitsAs<uint32_t>(x[i]) & 0x7fffffff;
        nans += magnitude > kInfinity;
        infinities += magnitude >= kLarge && magnitude <= kInfinity;
        wrong += magnitude >= kInfinity;
      }
      if (a.non_finite != nullptr && wrong > 0) atomicAdd(&a.non_finite[chunk.item], wrong);
    } else if (top >= BitsAs<uint32_t>(0x1p18f)) {
      SumSquares<0>(x, bins);
    } else if (top >= BitsAs<uint32_t>(0x1p-4f)) {
      SumSquares<1>(x, bins);
    } else if (top >= BitsAs<uint32_t>(0x1p-25f)) {
      SumSquares<2>(x, bins);
    } else if (top > 0) {
      SumSquares<3>(x, bins);
    }
  }
  MR_SHARED(int64_t, sums, kWarps * (kNormBins + 2));
  int64_t mine[kNormBins + 2] = {bins[0], bins[1], bins[2], bins[3], infinities, nans};
#pragma unroll
  for (int b = 0; b < kNormBins + 2; ++b) {
    for (int d = 16; d > 0; d /= 2) mine[b] += __shfl_down_sync(kAllLanes, mine[b], d);
    if (lane == 0) sums[warp * (kNormBins + 2) + b] = mine[b];
  }
  __syncthreads();
  const int b = static_cast<int>(threadIdx.x);
  if (b >= kNormBins + 2) return;
  int64_t total = 0;
  for (int w = 0; w < kWarps; ++w) total += sums[w * (kNormBins + 2) + b];
  if (b < kNormBins) {
    Add128(a.words + 2 * b, total);
  } else if (total != 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(a.words) + kNormBins + b,
              static_cast<unsigned long long>(total));
  }
}

__global__ void ZeroKernel(NormLaunch a) {
  const int64_t first = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (first < kNormWords) a.words[first] = 0;
  if (a.non_finite == nullptr) return;
  for (int64_t i = first; i < a.range_count; i += int64_t{gridDim.x} * kThreads)
    a.non_finite[i] = 0;
}

// By one warp: the sum of all partials, in lane 0's `words`.
__device__ void SumInputs(const NormInput* inputs, int64_t count, int64_t* words) {
  MR_SHARED(int64_t, lanes, 32 * kNormWords);
  for (int w = 0; w < kNormWords; ++w) words[w] = 0;
  for (int64_t i = 0; i < count; ++i) {
    const NormInput input = inputs[i];
    for (int64_t p = threadIdx.x; p < input.count; p += 32)
      AddNormWords(words, input.words + p * kNormWords);
  }
  for (int w = 0; w < kNormWords; ++w) lanes[threadIdx.x * kNormWords + w] = words[w];
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int lane = 1; lane < 32; ++lane) AddNormWords(words, lanes + lane * kNormWords);
}

__global__ void NormSumKernel(const NormInput* inputs, int64_t count, int64_t* out) {
  int64_t words[kNormWords];
  SumInputs(inputs, count, words);
  if (threadIdx.x != 0) return;
  for (int w = 0; w < kNormWords; ++w) out[w] = words[w];
}

__global__ void ClipCoefficientKernel(const NormInput* inputs, int64_t count, double max_norm,
                                      const LossScaleState* state, float* out) {
  int64_t words[kNormWords];
  SumInputs(inputs, count, words);
  if (threadIdx.x != 0) return;
  const auto norm = static_cast<float>(NormOfWords(words));
  if (state == nullptr) {
    out[0] = ClipFactorOf(norm, max_norm);
    out[1] = norm;
    return;
  }
  out[0] = UnscaleClipFactorOf(norm, state->scale, max_norm);
  out[1] = __fdiv_rn(norm, static_cast<float>(state->scale));
  out[2] = IsFinite(norm) ? 0.0f : 1.0f;
}

__global__ void LossScaleKernel(LossScaleOptions options, const float* coefficient,
                                LossScaleState* state) {
  UpdateLossScale(options, coefficient[2] != 0, state);
}

}  // namespace

const char* LaunchNorm(const NormLaunch& a, void* stream) {
  auto* kernel = a.type == DType::kF32    ? &NormKernel<DType::kF32>
                 : a.type == DType::kBF16 ? &NormKernel<DType::kBF16>
                 : a.type == DType::kF16  ? &NormKernel<DType::kF16>
                                          : nullptr;
  if (kernel == nullptr) return "the gradient norm takes f32, bf16 or f16";
  MR_LAUNCH(ZeroKernel, 1, kThreads, 0, stream, a);
  if (const char* error = LaunchError()) return error;
  if (a.chunk_count == 0) return nullptr;
  const int64_t blocks = std::max(std::min(a.chunk_count, kBlocks),
                                  (a.chunk_count + kChunksOfABlock - 1) / kChunksOfABlock);
  MR_LAUNCH(kernel, static_cast<unsigned>(blocks), kThreads, 0, stream, a);
  return LaunchError();
}

const char* LaunchNormSum(const NormInput* inputs, int64_t count, int64_t* words, void* stream) {
  MR_LAUNCH(NormSumKernel, 1, 32, 0, stream, inputs, count, words);
  return LaunchError();
}

const char* LaunchClipCoefficient(const NormInput* inputs, int64_t count, double max_norm,
                                  const LossScaleState* scale, float* out, void* stream) {
  MR_LAUNCH(ClipCoefficientKernel, 1, 32, 0, stream, inputs, count, max_norm, scale, out);
  return LaunchError();
}

const char* LaunchLossScaleUpdate(const LossScaleOptions& options, const float* coefficient,
                                  LossScaleState* state, void* stream) {
  MR_LAUNCH(LossScaleKernel, 1, 1, 0, stream, options, coefficient, state);
  return LaunchError();
}

}  // namespace cuda
}  // namespace millrace
