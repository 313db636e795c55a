#include "models/convolution.h"

#include <ATen/Parallel.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <utility>

#include "models/convolution_loops.h"
#include "models/generic.h"
#include "models/layers.h"
#include "models/meta_kernels.h"
#include "models/op_counter.h"

namespace millrace {
namespace {

using layers::Wide;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;

// A shape as a list of numbers and back: what autograd keeps beside tensors.
std::vector<int64_t> Pack(const ConvShape& s) {
  std::vector<int64_t> v{s.batch, s.in_channels, s.out_channels};
  for (const auto* axes : {&s.in, &s.out, &s.kernel, &s.stride, &s.pad}) {
    v.insert(v.end(), axes->begin(), axes->end());
  }
  return v;
}
ConvShape Unpack(const std::vector<int64_t>& v) {
  ConvShape s{v[0], v[1], v[2]};
  size_t i = 3;
  for (auto* axes : {&s.in, &s.out, &s.kernel, &s.stride, &s.pad}) {
    for (int64_t& x : *axes) x = v[i++];
  }
  return s;
}

// The planned memory of one sum, and the sum itself unless there are only shapes.
template <typename Sum>
void Run(const ConvShape& s, const at::Tensor& like, int64_t floats_moved, const Sum& sum) {
  ReportWork(s.flops(), floats_moved * static_cast<int64_t>(sizeof(float)));
  const int threads = like.is_meta() ? MetaThreads::Current() : at::get_num_threads();
  const at::Tensor columns = at::empty({s.column_floats(threads)}, like.options());
  const at::Tensor weights = at::empty({s.weight_floats()}, like.options());
  if (like.is_meta()) return;
  sum(ConvScratch{columns.data_ptr<float>(), weights.data_ptr<float>(), threads});
}

const float* Data(const at::Tensor& t) { return t.defined() ? t.const_data_ptr<float>() : nullptr; }

at::Tensor Forward(const ConvShape& s, const at::Tensor& x, const at::Tensor& w,
                   const at::Tensor& bias) {
  at::Tensor y = at::empty({s.batch, s.out_tokens(), s.out_channels}, x.options());
  Run(s, x, x.numel() + w.numel() + y.numel(), [&](const ConvScratch& scratch) {
    ConvForward(s, Data(x), Data(w), Data(bias), y.mutable_data_ptr<float>(), scratch);
  });
  return y;
}

at::Tensor InputSum(const ConvShape& s, const at::Tensor& dy, const at::Tensor& w,
                    const at::Tensor& bias) {
  at::Tensor dx = at::empty({s.batch, s.in_tokens(), s.in_channels}, dy.options());
  Run(s, dy, dx.numel() + w.numel() + dy.numel(), [&](const ConvScratch& scratch) {
    ConvInputSum(s, Data(dy), Data(w), Data(bias), dx.mutable_data_ptr<float>(), scratch);
  });
  return dx;
}

at::Tensor WeightSum(const ConvShape& s, const at::Tensor& x, const at::Tensor& dy,
                     at::IntArrayRef shape) {
  at::Tensor dw = at::empty(shape, dy.options());
  Run(s, dy, x.numel() + dw.numel() + dy.numel(), [&](const ConvScratch& scratch) {
    ConvWeightSum(s, Data(x), Data(dy), dw.mutable_data_ptr<float>(), scratch);
  });
  return dw;
}

at::Tensor BiasSum(const at::Tensor& dy) {
  at::Tensor sums = at::empty({dy.size(-1)}, dy.options());
  ReportWork(0, static_cast<int64_t>(dy.nbytes()));
  if (!dy.is_meta()) {
    ColumnSums(Data(dy), dy.numel() / dy.size(-1), dy.size(-1), sums.mutable_data_ptr<float>());
  }
  return sums;
}

// `up`: the transposed convolution, whose forward is the other's input gradient and the other way round.
struct ConvolutionFunction : Function<ConvolutionFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& weight,
                          const OptionalTensor& bias, const std::vector<int64_t>& shape, bool up) {
    const ConvShape s = Unpack(shape);
    ctx->save_for_backward({x, weight});
    ctx->saved_data["shape"] = shape;
    ctx->saved_data["bias"] = bias.has_value();
    ctx->saved_data["up"] = up;
    const at::Tensor b = bias.has_value() ? Wide(*bias).contiguous() : at::Tensor();
    const at::Tensor wide_x = Wide(x).contiguous(), w = Wide(weight).contiguous();
    return (up ? InputSum(s, wide_x, w, b) : Forward(s, wide_x, w, b)).to(x.scalar_type());
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const ConvShape s = Unpack(ctx->saved_data["shape"].toIntVector());
    const bool up = ctx->saved_data["up"].toBool();
    const at::ScalarType type = saved[0].scalar_type();
    const at::Tensor dy = Wide(grads[0]).contiguous();
    variable_list result(5);
    if (ctx->needs_input_grad(0)) {
      const at::Tensor w = Wide(saved[1]).contiguous();
      result[0] =
          (up ? Forward(s, dy, w, at::Tensor()) : InputSum(s, dy, w, at::Tensor())).to(type);
    }
    if (ctx->needs_input_grad(1)) {
      const at::Tensor x = Wide(saved[0]).contiguous();
      const at::IntArrayRef shape = saved[1].sizes();
      result[1] =
          (up ? WeightSum(s, dy, x, shape) : WeightSum(s, x, dy, shape)).to(saved[1].scalar_type());
    }
    if (ctx->saved_data["bias"].toBool() && ctx->needs_input_grad(2)) {
      result[2] = BiasSum(dy).to(saved[1].scalar_type());
    }
    return result;
  }
};

int64_t Product(const std::vector<int64_t>& v) {
  int64_t p = 1;
  for (const int64_t x : v) p *= x;
  return p;
}

// Tokens as images and back, without a copy where the operators keep channels innermost.
at::Tensor AsImages(const at::Tensor& x, const std::vector<int64_t>& grid) {
  std::vector<int64_t> sizes{x.size(0)};
  sizes.insert(sizes.end(), grid.begin(), grid.end());
  sizes.push_back(x.size(2));
  return x.view(sizes).movedim(-1, 1);
}
at::Tensor AsTokens(const at::Tensor& images) {
  return images.movedim(1, -1).reshape({images.size(0), -1, images.size(1)});
}

at::Tensor GenericConvolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                              const std::vector<int64_t>& grid, const ConvGeometry& g) {
  const std::vector<int64_t> one(grid.size(), 1), none(grid.size(), 0);
  at::Tensor images = AsImages(x, grid);
  if (g.pad_low != g.pad_high) {
    std::vector<int64_t> pads;  // of the last axis first
    for (size_t a = grid.size(); a-- > 0;) pads.insert(pads.end(), {g.pad_low[a], g.pad_high[a]});
    images = at::constant_pad_nd(images, pads);
  }
  return AsTokens(at::convolution(images, weight,
                                  bias.defined() ? OptionalTensor(bias) : std::nullopt, g.stride,
                                  g.pad_low == g.pad_high ? g.pad_low : none, one,
                                  /*transposed=*/false, none, /*groups=*/1));
}

at::Tensor GenericUpConvolution(const at::Tensor& x, const at::Tensor& weight,
                                const at::Tensor& bias, const std::vector<int64_t>& grid,
                                const std::vector<int64_t>& kernel) {
  const std::vector<int64_t> one(grid.size(), 1), none(grid.size(), 0);
  return AsTokens(at::convolution(AsImages(x, grid), weight,
                                  bias.defined() ? OptionalTensor(bias) : std::nullopt, kernel,
                                  none, one, /*transposed=*/true, none, /*groups=*/1));
}

// The last axis is the innermost, the first the outermost of three.
int Axis(size_t i, size_t axes) { return i + 1 == axes ? 2 : static_cast<int>(i); }

}  // namespace

ConvGeometry SamePadding(const std::vector<int64_t>& kernel) {
  ConvGeometry g{kernel, std::vector<int64_t>(kernel.size(), 1)};
  for (const int64_t k : kernel) {
    g.pad_low.push_back((k - 1) / 2);
    g.pad_high.push_back(k - 1 - (k - 1) / 2);
  }
  return g;
}

std::vector<int64_t> OutputGrid(const std::vector<int64_t>& grid, const ConvGeometry& g) {
  const size_t axes = grid.size();
  TORCH_CHECK(
      axes >= 1 && axes <= 3 && g.kernel.size() == axes && g.stride.size() == axes &&
          g.pad_low.size() == axes && g.pad_high.size() == axes,
      "a convolution has one to three axes, each with kernel, stride and padding; grid has ", axes,
      ", kernel ", g.kernel.size(), ", stride ", g.stride.size(), ", padding ", g.pad_low.size(),
      " and ", g.pad_high.size());
  std::vector<int64_t> out;
  for (size_t a = 0; a < axes; ++a) {
    const int64_t padded = grid[a] + g.pad_low[a] + g.pad_high[a];
    TORCH_CHECK(grid[a] >= 1 && g.kernel[a] >= 1 && g.stride[a] >= 1 && g.pad_low[a] >= 0 &&
                    g.pad_high[a] >= 0 && padded >= g.kernel[a],
                "axis ", a, ": a kernel of ", g.kernel[a], " at stride ", g.stride[a],
                " does not fit into ", grid[a], " + ", g.pad_low[a], " + ", g.pad_high[a]);
    out.push_back((padded - g.kernel[a]) / g.stride[a] + 1);
  }
  return out;
}

at::Tensor Convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       const std::vector<int64_t>& grid, const ConvGeometry& g) {
  const std::vector<int64_t> out = OutputGrid(grid, g);
  TORCH_CHECK(x.dim() == 3 && x.size(1) == Product(grid) &&
                  weight.dim() == static_cast<int64_t>(2 + grid.size()) &&
                  weight.size(1) == x.size(2) &&
                  weight.sizes().slice(2) == at::IntArrayRef(g.kernel),
              "convolution of ", x.sizes(), " on grid ", at::IntArrayRef(grid), " with weight ",
              weight.sizes(), " and kernel ", at::IntArrayRef(g.kernel));
  if (!OnHost(x)) return GenericConvolution(x, weight, bias, grid, g);
  ConvShape s{x.size(0), x.size(2), weight.size(0)};
  for (size_t a = 0; a < grid.size(); ++a) {
    const auto to = static_cast<size_t>(Axis(a, grid.size()));
    s.in[to] = grid[a], s.out[to] = out[a], s.kernel[to] = g.kernel[a];
    s.stride[to] = g.stride[a], s.pad[to] = g.pad_low[a];
  }
  return ConvolutionFunction::apply(x, weight, bias.defined() ? OptionalTensor(bias) : std::nullopt,
                                    Pack(s), /*up=*/false);
}

at::Tensor UpConvolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const std::vector<int64_t>& grid, const std::vector<int64_t>& kernel) {
  TORCH_CHECK(!grid.empty() && grid.size() <= 3 && kernel.size() == grid.size() && x.dim() == 3 &&
                  x.size(1) == Product(grid) &&
                  weight.dim() == static_cast<int64_t>(2 + grid.size()) &&
                  weight.size(0) == x.size(2) && weight.sizes().slice(2) == at::IntArrayRef(kernel),
              "transposed convolution of ", x.sizes(), " on grid ", at::IntArrayRef(grid),
              " with weight ", weight.sizes(), " and kernel ", at::IntArrayRef(kernel));
  if (!OnHost(x)) return GenericUpConvolution(x, weight, bias, grid, kernel);
  ConvShape s{x.size(0), weight.size(1), weight.size(0)};
  for (size_t a = 0; a < grid.size(); ++a) {
    const auto to = static_cast<size_t>(Axis(a, grid.size()));
    s.in[to] = grid[a] * kernel[a], s.out[to] = grid[a];
    s.kernel[to] = s.stride[to] = kernel[a];
  }
  return ConvolutionFunction::apply(x, weight, bias.defined() ? OptionalTensor(bias) : std::nullopt,
                                    Pack(s), /*up=*/true);
}

}  // namespace millrace
