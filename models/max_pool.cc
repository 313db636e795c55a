#include "models/max_pool.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/max_pool2d.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "models/generic.h"
#include "models/op_counter.h"

namespace millrace {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct Pooling {
  int64_t batch, rows, columns, channels;

  int64_t out_columns() const { return columns / 2; }
  int64_t lines() const { return batch * (rows / 2); }  // of results
  // Place 0..3 of the result at `column` of `line`: its first channel in x.
  int64_t Place(int64_t line, int64_t column, int place) const {
    const int64_t sample = line / (rows / 2), row = line % (rows / 2);
    return ((sample * rows + 2 * row + place / 2) * columns + 2 * column + place % 2) * channels;
  }
  int64_t Result(int64_t line, int64_t column) const {
    return (line * out_columns() + column) * channels;
  }

  template <typename F>
  void ForResults(const F& f) const {
    at::parallel_for(0, lines(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t line = begin; line < end; ++line) {
        for (int64_t column = 0; column < out_columns(); ++column) f(line, column);
      }
    });
  }

  template <typename T>
  void Forward(const T* x, T* y, uint8_t* chosen) const {
    ForResults([&](int64_t line, int64_t column) {
      const int64_t to = Result(line, column);
      const T* places[4];
      for (int p = 0; p < 4; ++p) places[p] = x + Place(line, column, p);
      for (int64_t c = 0; c < channels; ++c) {
        uint8_t best = 0;
        T value = places[0][c];
        for (uint8_t p = 1; p < 4; ++p) {
          const T other = places[p][c];
          // Written so that a NaN is kept once met.
          const bool better = other > value || other != other;
          best = better ? p : best;
          value = better ? other : value;
        }
        y[to + c] = value;
        chosen[to + c] = best;
      }
    });
  }

  template <typename T>
  void Backward(const T* dy, const uint8_t* chosen, T* dx) const {
    if (rows % 2 != 0 || columns % 2 != 0) std::fill_n(dx, batch * rows * columns * channels, T(0));
    ForResults([&](int64_t line, int64_t column) {
      const int64_t from = Result(line, column);
      for (int p = 0; p < 4; ++p) {
        T* to = dx + Place(line, column, p);
        for (int64_t c = 0; c < channels; ++c) {
          to[c] = chosen[from + c] == p ? dy[from + c] : T(0);
        }
      }
    });
  }
};

struct MaxPoolFunction : Function<MaxPoolFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& x_in, int64_t rows,
                          int64_t columns) {
    const at::Tensor x = x_in.contiguous();
    const Pooling p{x.size(0), rows, columns, x.size(2)};
    const at::Tensor y =
        at::empty({p.batch, (rows / 2) * p.out_columns(), p.channels}, x.options());
    const at::Tensor chosen = at::empty(y.sizes(), x.options().dtype(at::kByte));
    ReportWork(0, static_cast<int64_t>(x.nbytes() + y.nbytes() + chosen.nbytes()));
    if (!x.is_meta()) {
      AT_DISPATCH_FLOATING_TYPES_AND2(
          at::kHalf, at::kBFloat16, x.scalar_type(), "max_pool_2x2", [&] {
            p.Forward(x.const_data_ptr<scalar_t>(), y.mutable_data_ptr<scalar_t>(),
                      chosen.mutable_data_ptr<uint8_t>());
          });
    }
    ctx->save_for_backward({chosen});
    ctx->saved_data["rows"] = rows;
    ctx->saved_data["columns"] = columns;
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const at::Tensor chosen = ctx->get_saved_variables()[0], dy = grads[0].contiguous();
    const int64_t rows = ctx->saved_data["rows"].toInt(),
                  columns = ctx->saved_data["columns"].toInt();
    const Pooling p{dy.size(0), rows, columns, dy.size(2)};
    const at::Tensor dx = at::empty({p.batch, rows * columns, p.channels}, dy.options());
    ReportWork(0, static_cast<int64_t>(dx.nbytes() + dy.nbytes() + chosen.nbytes()));
    if (!dy.is_meta()) {
      AT_DISPATCH_FLOATING_TYPES_AND2(
          at::kHalf, at::kBFloat16, dy.scalar_type(), "max_pool_2x2_backward", [&] {
            p.Backward(dy.const_data_ptr<scalar_t>(), chosen.const_data_ptr<uint8_t>(),
                       dx.mutable_data_ptr<scalar_t>());
          });
    }
    return {dx, Variable(), Variable()};
  }
};

}  // namespace

at::Tensor MaxPool2x2(const at::Tensor& x, int64_t rows, int64_t columns) {
  TORCH_CHECK(x.dim() == 3 && x.size(1) == rows * columns && rows >= 2 && columns >= 2,
              "2 x 2 pooling of ", x.sizes(), " on a grid of ", rows, " x ", columns);
  if (OnHost(x)) return MaxPoolFunction::apply(x, rows, columns);
  const at::Tensor images = x.view({x.size(0), rows, columns, x.size(2)}).permute({0, 3, 1, 2});
  return at::max_pool2d(images, {2, 2}, {2, 2})
      .permute({0, 2, 3, 1})
      .reshape({x.size(0), (rows / 2) * (columns / 2), x.size(2)});
}

}  // namespace millrace
