// Compiled on every machine of --config=cuda, and so far run on none: no figure of it has been seen.
//
// GB/s of the kernels that are bound by memory, beside a copy on the same device in the same run, and the time of
// sparse attention. Each line is the median of 21 timed rounds, alternating with the copy's.
//
//   kernels_benchmark [elements]           // 2^28 by default; prints JSON, one object per line
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "models/cuda/sparse_attention.h"
#include "ops/cuda/cast.h"
#include "ops/cuda/emulation/device_array.h"
#include "ops/cuda/norm.h"
#include "ops/cuda/optimizer.h"

namespace millrace {
namespace cuda {
namespace {

constexpr int kRounds = 21;

// Memory of zeros.
char* Allocate(int64_t bytes) {
  void* p = nullptr;
  if (cudaMalloc(&p, static_cast<size_t>(bytes)) != cudaSuccess ||
      cudaMemset(p, 0, static_cast<size_t>(bytes)) != cudaSuccess) {
    std::fprintf(stderr, "no device memory for %lld bytes: %s\n", static_cast<long long>(bytes),
                 cudaGetErrorString(cudaGetLastError()));
    std::exit(2);
  }
  return static_cast<char*>(p);
}

double Milliseconds(const std::function<const char*()>& launch) {
  cudaEvent_t begin, end;
  cudaEventCreate(&begin);
  cudaEventCreate(&end);
  cudaEventRecord(begin, nullptr);
  const char* error = launch();
  cudaEventRecord(end, nullptr);
  if (error == nullptr && cudaEventSynchronize(end) != cudaSuccess) {
    error = cudaGetErrorString(cudaGetLastError());
  }
  if (error != nullptr) {
    std::fprintf(stderr, "a kernel failed: %s\n", error);
    std::exit(1);
  }
  float ms = 0;
  cudaEventElapsedTime(&ms, begin, end);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return ms;
}

double Median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + x.size() / 2, x.end());
  return x[x.size() / 2];
}

struct Bench {
  char *copy_from, *copy_to;
  int64_t copy_bytes;

  // `bytes`: read and written by the launch.
  void Run(const std::string& name, double bytes,
           const std::function<const char*()>& launch) const {
    std::vector<double> kernel, copy;
    for (int round = -3; round < kRounds; ++round) {
      const double ms = Milliseconds(launch);
      const double copy_ms = Milliseconds([&]() -> const char* {
        return cudaMemcpyAsync(copy_to, copy_from, static_cast<size_t>(copy_bytes),
                               cudaMemcpyDeviceToDevice, nullptr) == cudaSuccess
                   ? nullptr
                   : "copy";
      });
      if (round < 0) continue;  // warm
      kernel.push_back(ms);
      copy.push_back(copy_ms);
    }
    const double rate = bytes / Median(kernel) / 1e6;
    const double copy_rate = 2.0 * static_cast<double>(copy_bytes) / Median(copy) / 1e6;
    std::printf(
        "{\"name\": \"%s\", \"ms\": %.4f, \"gb_per_s\": %.1f, \"copy_gb_per_s\": %.1f, "
        "\"of_copy\": %.3f}\n",
        name.c_str(), Median(kernel), rate, copy_rate, rate / copy_rate);
  }
};

int Main(int64_t n) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "no CUDA device is present\n");
    return 2;
  }
  auto* p = reinterpret_cast<float*>(Allocate(4 * n));
  auto* m = reinterpret_cast<float*>(Allocate(4 * n));
  auto* v = reinterpret_cast<float*>(Allocate(4 * n));
  char* g = Allocate(4 * n);
  char* out = Allocate(4 * n);
  const Bench bench{g, out, 4 * n};
  const auto count = static_cast<double>(n);

  for (const DType grad : {DType::kF32, DType::kBF16}) {
    for (const bool copy : {false, true}) {
      const std::vector<OptimizerRun> runs = {{p, g, m, v, copy ? out : nullptr, n}};
      const std::vector<Chunk> chunks = Chunks(runs);
      const DeviceArray<OptimizerRun> runs_there(runs);
      const DeviceArray<Chunk> chunks_there(chunks);
      const DeviceArray<OptimizerScalars> scalars({ScalarsOf(AdamScalars(), 10, 0)});
      OptimizerLaunch launch;
      launch.grad = grad;
      launch.runs = runs_there.data(), launch.chunks = chunks_there.data();
      launch.chunk_count = static_cast<int64_t>(chunks.size());
      launch.scalars = scalars.data();
      const double bytes = count * (24 + SizeOf(grad) + (copy ? 2 : 0));
      bench.Run(std::string("adamw, gradient ") + (grad == DType::kF32 ? "f32" : "bf16") +
                    (copy ? ", bf16 copy" : ""),
                bytes, [&] { return Launch(launch, nullptr); });
    }
  }
  for (const DType type : {DType::kF32, DType::kBF16}) {
    const std::vector<NormRange> ranges = {{g, n}};
    const std::vector<Chunk> chunks = Chunks(ranges);
    const DeviceArray<NormRange> ranges_there(ranges);
    const DeviceArray<Chunk> chunks_there(chunks);
    const DeviceArray<int64_t> words(std::vector<int64_t>(10));
    // Ordinary gradients: zeros would be skipped.
    cudaMemset(g, 0x3c, static_cast<size_t>(4 * n));
    NormLaunch launch;
    launch.type = type;
    launch.ranges = ranges_there.data(), launch.chunks = chunks_there.data();
    launch.chunk_count = static_cast<int64_t>(chunks.size());
    launch.words = words.data();
    bench.Run(std::string("gradient norm ") + (type == DType::kF32 ? "f32" : "bf16"),
              count * static_cast<double>(SizeOf(type)),
              [&] { return LaunchNorm(launch, nullptr); });
  }
  const auto pieces = [&](const char* name, double bytes, const Piece& piece) {
    const std::vector<Piece> all = {piece};
    const std::vector<Chunk> chunks = Chunks(all);
    const DeviceArray<Piece> there(all);
    const DeviceArray<Chunk> chunks_there(chunks);
    bench.Run(name, bytes, [&] {
      return LaunchPieces(there.data(), chunks_there.data(), static_cast<int64_t>(chunks.size()),
                          nullptr);
    });
  };
  pieces("cast f32 to bf16", 6 * count, Piece::Cast(p, DType::kF32, out, DType::kBF16, n));
  pieces("accumulate f32", 12 * count, Piece::Add(p, g, DType::kF32, n));
  pieces("accumulate bf16", 6 * count, Piece::Add(p, g, DType::kBF16, n));
  pieces("zero", 4 * count, Piece::Zero(out, 4 * n));

  SparseAttentionShape shape;
  shape.axes = 2, shape.batch = 8, shape.heads = 16, shape.width = 16;
  for (int a = 0; a < 2; ++a)
    shape.query[a] = 43, shape.key[a] = 128, shape.stride[a] = 3, shape.window[a] = 7;
  const int64_t width = shape.heads * shape.width, keys = shape.batch * shape.keys() * width,
                queries = shape.batch * shape.queries() * width;
  char *q = Allocate(4 * queries), *k = Allocate(4 * keys), *values = Allocate(4 * keys),
       *y = Allocate(4 * queries), *dq = Allocate(4 * queries), *dk = Allocate(4 * keys),
       *dv = Allocate(4 * keys);
  auto* logsumexp = reinterpret_cast<float*>(Allocate(4 * shape.logsumexp_floats()));
  auto* sums = reinterpret_cast<float*>(Allocate(4 * shape.sums_floats()));
  auto* scratch = reinterpret_cast<float*>(Allocate(4 * shape.scratch_floats()));
  for (const DType type : {DType::kF32, DType::kBF16}) {
    const auto size = static_cast<double>(SizeOf(type));
    const std::string name = type == DType::kF32 ? "f32" : "bf16";
    // Rates are of what must be moved at least once, not of what the caches serve.
    bench.Run(
        "sparse attention forward " + name, size * 2.0 * static_cast<double>(queries + keys), [&] {
          return SparseAttentionForward(shape, type, {q, k, values, y, logsumexp, sums}, nullptr);
        });
    bench.Run("sparse attention backward " + name, size * (3.0 * queries + 4.0 * keys), [&] {
      return SparseAttentionBackward(
          shape, type, {q, k, values, y, logsumexp, sums, dq, dk, dv, scratch}, nullptr);
    });
  }
  return 0;
}

}  // namespace
}  // namespace cuda
}  // namespace millrace

int main(int argc, char** argv) {
  const int64_t n = argc > 1 ? std::atoll(argv[1]) : int64_t{1} << 28;
  if (n < 1) {
    std::fprintf(stderr, "usage: kernels_benchmark [elements]\n");
    return 2;
  }
  return millrace::cuda::Main(n);
}
