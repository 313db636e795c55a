#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/threshold.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "models/generic.h"
#include "models/layers.h"
#include "models/rat/generic_parts.h"
#include "models/rat/heads.h"

namespace millrace::rat {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// For each of `size` pixels the two tokens of `grid` it lies between and the second's share.
struct Taps {
  std::vector<int64_t> first, second;
  std::vector<float> share;
  Taps(int64_t grid, int64_t size) {
    const double step = static_cast<double>(grid) / static_cast<double>(size);
    for (int64_t i = 0; i < size; ++i) {
      const double at = std::max(0.0, (static_cast<double>(i) + 0.5) * step - 0.5);
      const int64_t f = std::min(static_cast<int64_t>(at), grid - 1);
      first.push_back(f);
      second.push_back(std::min(f + 1, grid - 1));
      share.push_back(static_cast<float>(at - static_cast<double>(f)));
    }
  }
};

struct UpsampleFunction : Function<UpsampleFunction> {
  // tokens [B, N, C] on a grid -> [B, C, H, W]
  static Variable forward(AutogradContext* ctx, const Variable& tokens,
                          const std::vector<int64_t>& grid, const std::vector<int64_t>& size) {
    const int64_t batch = tokens.size(0), classes = tokens.size(2);
    ctx->saved_data["grid"] = grid;
    const int64_t h = size[0], w = size[1];
    at::Tensor out = at::empty({batch, classes, h, w}, tokens.options());
    if (out.is_meta()) return out;
    const Taps rows(grid[0], h), columns(grid[1], w);
    const float* in = tokens.data_ptr<float>();
    float* y = out.data_ptr<float>();
    at::parallel_for(0, batch * classes, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float* map = in + (i / classes) * grid[0] * grid[1] * classes + i % classes;
        const auto token = [&](int64_t r, int64_t c) { return map[(r * grid[1] + c) * classes]; };
        for (int64_t r = 0; r < h; ++r) {
          const int64_t r0 = rows.first[r], r1 = rows.second[r];
          for (int64_t c = 0; c < w; ++c) {
            const int64_t c0 = columns.first[c], c1 = columns.second[c];
            const float a = columns.share[c], b = rows.share[r];
            const float top = token(r0, c0) + a * (token(r0, c1) - token(r0, c0));
            const float low = token(r1, c0) + a * (token(r1, c1) - token(r1, c0));
            y[(i * h + r) * w + c] = top + b * (low - top);
          }
        }
      }
    });
    return out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const std::vector<int64_t> grid = ctx->saved_data["grid"].toIntVector();
    const at::Tensor dy = grads[0].contiguous();
    const int64_t batch = dy.size(0), classes = dy.size(1), h = dy.size(2), w = dy.size(3);
    at::Tensor dx = at::empty({batch, grid[0] * grid[1], classes}, dy.options());
    if (!dy.is_meta()) {
      const Taps rows(grid[0], h), columns(grid[1], w);
      const float* g = dy.data_ptr<float>();
      at::parallel_for(0, batch * classes, 1, [&](int64_t begin, int64_t end) {
        std::vector<double> sum(static_cast<size_t>(grid[0] * grid[1]));
        for (int64_t i = begin; i < end; ++i) {
          std::fill(sum.begin(), sum.end(), 0.0);
          for (int64_t r = 0; r < h; ++r) {
            double* upper = sum.data() + rows.first[r] * grid[1];
            double* lower = sum.data() + rows.second[r] * grid[1];
            for (int64_t c = 0; c < w; ++c) {
              const double d = g[(i * h + r) * w + c], a = columns.share[c], b = rows.share[r];
              const int64_t c0 = columns.first[c], c1 = columns.second[c];
              upper[c0] += d * (1 - b) * (1 - a);
              upper[c1] += d * (1 - b) * a;
              lower[c0] += d * b * (1 - a);
              lower[c1] += d * b * a;
            }
          }
          float* out =
              dx.data_ptr<float>() + (i / classes) * grid[0] * grid[1] * classes + i % classes;
          for (size_t n = 0; n < sum.size(); ++n) {
            out[static_cast<int64_t>(n) * classes] = static_cast<float>(sum[n]);
          }
        }
      });
    }
    return {dx, Variable(), Variable()};
  }
};

}  // namespace

void AddSegmentationParams(std::vector<ParamSpec>& params, const std::string& prefix, int64_t width,
                           int64_t classes) {
  AddFanIn(params, prefix + "decoder.0", {width / 2, width});
  AddFanIn(params, prefix + "decoder.2", {width / 4, width / 2});
  AddFanIn(params, prefix + "decoder.4", {classes, width / 4});
}

SegmentationParams ReadSegmentationParams(ParamReader& reader) {
  SegmentationParams p;
  for (int i = 0; i < 3; ++i) p.weight[i] = reader.Next(), p.bias[i] = reader.Next();
  return p;
}

std::vector<at::Tensor> SegmentationHeads(const std::vector<at::Tensor>& tokens,
                                          const std::vector<std::vector<int64_t>>& grids,
                                          const std::vector<std::vector<int64_t>>& sizes,
                                          const SegmentationParams& p) {
  const int64_t scales = static_cast<int64_t>(tokens.size());
  std::vector<Uses> weight, bias;
  for (int i = 0; i < 3; ++i) {
    weight.emplace_back(p.weight[i], scales);
    bias.emplace_back(p.bias[i], scales);
  }
  std::vector<at::Tensor> logits;
  for (size_t s = 0; s < tokens.size(); ++s) {
    const int64_t batch = tokens[s].size(0), n = tokens[s].size(1);
    at::Tensor x = tokens[s].view({batch * n, -1});
    for (size_t i = 0; i < 3; ++i) {
      x = layers::Linear(x, weight[i].Next(), bias[i].Next());
      if (i < 2) x = at::threshold(x, 0, 0);  // ReLU, which lacks a meta kernel in C++
    }
    x = x.view({batch, n, -1});
    logits.push_back(OnHost(x) ? UpsampleFunction::apply(x, grids[s], sizes[s])
                               : generic::Upsample(x, grids[s], sizes[s]));
  }
  return logits;
}

}  // namespace millrace::rat
