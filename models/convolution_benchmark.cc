// Milliseconds of our convolution and of oneDNN's through at::conv2d on images as it wants them (no transposition
// counted), forward and forward + backward of all gradients, one thread. oneDNN's scratch is its own; ours is in the
// plan. To be reached: oneDNN's time for the large ones.
//
// 2-core AMD EPYC VM beside other work, 2026-11-21, milliseconds, oneDNN / ours:
//                                 forward       all gradients, too
//   grouping_7x7_s3_256_128px     154 / 159     667 / 561
//   grouping_4x4_s2_256_64px      30 / 33       90 / 106
//   unet_3x3_64_128px             15 / 20       63 / 69
//   unet_3x3_512_16px             17 / 15       52 / 50
//   deep_7x7_s3_1280_5px          37 / 43       8447 / 385
//   projection_7x7_3_256_128px    36 / 19       130 / 78
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <string>

#include "models/convolution.h"

namespace millrace {
namespace {

struct Case {
  const char* name;
  int64_t in, out, size, kernel, stride, pad;
};
constexpr Case kCases[] = {
    {"grouping_7x7_s3_256_128px", 256, 256, 128, 7, 3, 3},
    {"grouping_4x4_s2_256_64px", 256, 256, 64, 4, 2, 1},
    {"unet_3x3_64_128px", 64, 64, 128, 3, 1, 1},
    {"unet_3x3_512_16px", 512, 512, 16, 3, 1, 1},
    {"deep_7x7_s3_1280_5px", 1280, 1280, 5, 7, 3, 3},
    {"projection_7x7_3_256_128px", 3, 256, 128, 7, 1, 3},
};

void Run(benchmark::State& state, const Case& c, bool ours, bool backward) {
  at::set_num_threads(1);
  const c10::AutoGradMode grad(backward);
  const ConvGeometry g{{c.kernel, c.kernel}, {c.stride, c.stride}, {c.pad, c.pad}, {c.pad, c.pad}};
  const int64_t to = OutputGrid({c.size}, {{c.kernel}, {c.stride}, {c.pad}, {c.pad}})[0];
  at::Tensor x = ours ? at::randn({1, c.size * c.size, c.in}, at::kFloat)
                      : at::randn({1, c.in, c.size, c.size}, at::kFloat);
  at::Tensor w = at::randn({c.out, c.in, c.kernel, c.kernel}, at::kFloat),
             b = at::randn({c.out}, at::kFloat);
  const at::Tensor dy =
      ours ? at::randn({1, to * to, c.out}, at::kFloat) : at::randn({1, c.out, to, to}, at::kFloat);
  for (at::Tensor* t : {&x, &w, &b}) t->set_requires_grad(backward);
  for (auto _ : state) {
    const at::Tensor y = ours ? Convolution(x, w, b, {c.size, c.size}, g)
                              : at::conv2d(x, w, b, {c.stride, c.stride}, {c.pad, c.pad});
    if (backward) benchmark::DoNotOptimize(torch::autograd::grad({y}, {x, w, b}, {dy}));
  }
  const double flops = 2.0 * static_cast<double>(to * to * w.numel()) * (backward ? 3 : 1);
  state.counters["GFLOP/s"] =
      benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

[[maybe_unused]] const bool registered = [] {
  for (const Case& c : kCases) {
    for (const bool backward : {false, true}) {
      for (const bool ours : {false, true}) {
        const std::string name =
            std::string(c.name) + (backward ? "/step" : "/forward") + (ours ? "/ours" : "/onednn");
        benchmark::RegisterBenchmark(name.c_str(), [&c, ours, backward](benchmark::State& s) {
          Run(s, c, ours, backward);
        })->Unit(benchmark::kMillisecond);
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace millrace
