#include "models/rat/rose.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "models/generic.h"
#include "models/op_counter.h"
#include "models/rat/blocks.h"
#include "models/rat/generic_parts.h"
#include "models/rat/held.h"

namespace millrace::rat {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;

OptionalTensor Optional(const at::Tensor& t) {
  return t.defined() ? OptionalTensor(t) : std::nullopt;
}
const float* Data(const at::Tensor& t) { return t.defined() ? t.data_ptr<float>() : nullptr; }

struct Plan {
  RoseConfig c;
  std::vector<RoseSegment> segments;
  std::vector<float> fixed;  // frequencies that are not learnt
  int64_t planes() const { return c.rotated_heads() * c.planes(); }
  // Rows of a table: one for each index of each axis of each segment.
  int64_t rows() const {
    int64_t n = 0;
    for (const RoseSegment& s : segments) {
      for (const int64_t g : s.grid) n += g;
    }
    return n;
  }
};

// The parameters' values, wherever they come from.
struct Values {
  const float* freqs;
  double scale[4][3];
  bool transform;

  Values(const Plan& plan, const RoseParams& p) {
    freqs = p.freqs.defined() ? Data(p.freqs) : plan.fixed.data();
    transform = plan.c.learnable_spacing || plan.c.start != SpacingStart::kIdentity;
    for (int i = 0; i < 4; ++i) {
      for (int64_t a = 0; a < plan.c.axes; ++a) {
        scale[i][a] = p.scale[i].defined() ? Data(p.scale[i])[a]
                                           : kSpacingStart[static_cast<int>(plan.c.start)][i];
      }
    }
  }
  double Transformed(double s, int64_t a) const {
    if (!transform || s == 0) return s;
    if (s < 0) return 0;
    const double y = scale[0][a] * std::pow(s, scale[1][a]) +
                     scale[2][a] * std::log(s / std::max(scale[3][a], 1e-8));
    return std::isfinite(y / s) ? y : s;
  }
  // Adds g * d(spacing')/d(A, B, C, D).
  void AddGradient(double s, int64_t a, double g, double (*out)[3]) const {
    if (!(s > 0) || !std::isfinite(Transformed(s, a) / s)) return;
    const double power = std::pow(s, scale[1][a]), d = scale[3][a];
    out[0][a] += g * power;
    out[1][a] += g * scale[0][a] * power * std::log(s);
    out[2][a] += g * std::log(s / std::max(d, 1e-8));
    if (d > 1e-8) out[3][a] -= g * scale[2][a] / d;
  }
};

double SpacingOf(const at::Tensor& spacing, int64_t b, const RoseSegment& s, int64_t a) {
  if (!spacing.defined()) return s.factor[a];
  const int64_t row = spacing.size(0) == 1 ? 0 : b;
  return s.factor[a] *
         spacing.data_ptr<float>()[row * spacing.stride(0) + s.scale * spacing.stride(1) +
                                   a * spacing.stride(2)];
}

// Cosines, then sines, of each plane for each row; one table per spacing.
at::Tensor Tables(const Plan& plan, const at::Tensor& x, const at::Tensor& spacing,
                  const RoseParams& params) {
  const int64_t tables = spacing.defined() ? spacing.size(0) : 1, planes = plan.planes();
  at::Tensor t = at::empty({tables, plan.rows(), 2 * planes}, x.options());
  if (x.is_meta()) return t;
  const Values v(plan, params);
  float* out = t.data_ptr<float>();
  for (int64_t b = 0; b < tables; ++b) {
    for (const RoseSegment& s : plan.segments) {
      for (int64_t a = 0; a < plan.c.axes; ++a) {
        const double step = v.Transformed(SpacingOf(spacing, b, s, a), a);
        for (int64_t i = 0; i < s.grid[a]; ++i, out += 2 * planes) {
          for (int64_t p = 0; p < planes; ++p) {
            const double angle = static_cast<double>(i) * step * v.freqs[p * plan.c.axes + a];
            out[p] = static_cast<float>(std::cos(angle));
            out[planes + p] = static_cast<float>(std::sin(angle));
          }
        }
      }
    }
  }
  return t;
}

// Where a token lies, and the rows of the tables that belong to it.
class Places {
 public:
  Places(const Plan& plan, const at::Tensor& tables)
      : plan_(plan), tables_(tables), planes_(plan.planes()) {}

  // Calls f(t, segment or -1, index per axis, table row per axis) for tokens [begin, end) of sample b.
  template <typename F>
  void ForTokens(int64_t b, int64_t begin, int64_t end, F&& f) const {
    const int64_t table = tables_.size(0) == 1 ? 0 : b;
    const float* base = tables_.data_ptr<float>() + table * tables_.stride(0);
    int64_t index[3] = {0, 0, 0};
    const float* rows[3] = {nullptr, nullptr, nullptr};
    int64_t t = begin, first_row = 0;
    for (size_t i = 0; i < plan_.segments.size(); ++i) {
      const RoseSegment& s = plan_.segments[i];
      int64_t tokens = 1, row_count = 0;
      for (const int64_t g : s.grid) tokens *= g, row_count += g;
      for (; t < std::min(end, s.begin); ++t) f(t, -1, index, rows);
      for (; t < std::min(end, s.begin + tokens); ++t) {
        int64_t rest = t - s.begin;
        int64_t row = first_row + row_count;
        for (int64_t a = plan_.c.axes - 1; a >= 0; --a) {
          index[a] = rest % s.grid[a];
          rest /= s.grid[a];
          row -= s.grid[a];
          rows[a] = base + (row + index[a]) * 2 * planes_;
        }
        f(t, static_cast<int>(i), index, rows);
      }
      first_row += row_count;
    }
    for (; t < end; ++t) f(t, -1, index, rows);
  }

  // Cosines and sines of the sum over axes of planes [begin, begin + n).
  void Angles(const float* const* rows, int64_t begin, int64_t n, float* cosine,
              float* sine) const {
    for (int64_t p = 0; p < n; ++p) {
      cosine[p] = rows[0][begin + p];
      sine[p] = rows[0][planes_ + begin + p];
    }
    for (int64_t a = 1; a < plan_.c.axes; ++a) {
      for (int64_t p = 0; p < n; ++p) {
        const float c = rows[a][begin + p], s = rows[a][planes_ + begin + p];
        const float c0 = cosine[p], s0 = sine[p];
        cosine[p] = c0 * c - s0 * s;
        sine[p] = c0 * s + s0 * c;
      }
    }
  }

 private:
  const Plan& plan_;
  const at::Tensor& tables_;
  const int64_t planes_;
};

// y = temp * R x, or with `inverse` temp * R^T x.
void Turn(const Plan& plan, const at::Tensor& tables, const float* x, float temp, bool inverse,
          int64_t batch, int64_t tokens, float* y) {
  const int64_t width = plan.c.heads * plan.c.head_width;
  const int64_t planes =
      plan.planes();  // head_width is even: the planes of turned heads are in one run
  const Places places(plan, tables);
  at::parallel_for(0, batch * tokens, 64, [&](int64_t begin, int64_t end) {
    std::vector<float> cosine(static_cast<size_t>(planes)), sine(static_cast<size_t>(planes));
    while (begin < end) {
      const int64_t b = begin / tokens, last = std::min(end, (b + 1) * tokens);
      places.ForTokens(b, begin - b * tokens, last - b * tokens,
                       [&](int64_t t, int segment, const int64_t*, const float* const* rows) {
                         const float* in = x + (b * tokens + t) * width;
                         float* out = y + (b * tokens + t) * width;
                         int64_t from = 0;
                         if (segment >= 0) {
                           places.Angles(rows, 0, planes, cosine.data(), sine.data());
                           const float sign = inverse ? -temp : temp;
                           for (int64_t p = 0; p < planes; ++p) {
                             const float c = temp * cosine[p], s = sign * sine[p];
                             out[2 * p] = in[2 * p] * c - in[2 * p + 1] * s;
                             out[2 * p + 1] = in[2 * p] * s + in[2 * p + 1] * c;
                           }
                           from = 2 * planes;
                         }
                         for (int64_t i = from; i < width; ++i) out[i] = temp * in[i];
                       });
      begin = last;
    }
  });
}

// What backward sums over tokens: moments[b, segment, plane, axis] = sum of index * d(loss)/d(angle), and per head
// d(loss)/d(temp). One task a head, so that the order of summation is always the same.
void Moments(const Plan& plan, const at::Tensor& tables, const float* dy, const float* kept,
             bool kept_is_x, float temp, int64_t batch, int64_t tokens, double* moments,
             double* dtemp) {
  const int64_t d = plan.c.head_width, width = plan.c.heads * d, planes = plan.c.planes();
  const int64_t axes = plan.c.axes, all = plan.planes(), turned = plan.c.rotated_heads();
  const int64_t segments = static_cast<int64_t>(plan.segments.size());
  const Places places(plan, tables);
  at::parallel_for(0, batch * plan.c.heads, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> cosine(static_cast<size_t>(planes)), sine(static_cast<size_t>(planes));
    for (int64_t task = begin; task < end; ++task) {
      const int64_t b = task / plan.c.heads, h = task % plan.c.heads;
      double sum = 0;
      places.ForTokens(b, 0, tokens,
                       [&](int64_t t, int segment, const int64_t* index, const float* const* rows) {
                         const float* g = dy + (b * tokens + t) * width + h * d;
                         const float* z = kept + (b * tokens + t) * width + h * d;
                         if (h >= turned || segment < 0) {
                           if (kept_is_x) {
                             for (int64_t i = 0; i < d; ++i) sum += g[i] * z[i];
                           }
                           return;
                         }
                         if (kept_is_x)
                           places.Angles(rows, h * planes, planes, cosine.data(), sine.data());
                         double* m = moments + ((b * segments + segment) * all + h * planes) * axes;
                         for (int64_t p = 0; p < planes; ++p, m += axes) {
                           float y0 = z[2 * p], y1 = z[2 * p + 1];
                           if (kept_is_x) {
                             const float x0 = y0, x1 = y1;
                             y0 = x0 * cosine[p] - x1 * sine[p];
                             y1 = x0 * sine[p] + x1 * cosine[p];
                             sum += g[2 * p] * y0 + g[2 * p + 1] * y1;
                           }
                           const double angle = temp * (g[2 * p + 1] * y0 - g[2 * p] * y1);
                           for (int64_t a = 0; a < axes; ++a)
                             m[a] += static_cast<double>(index[a]) * angle;
                         }
                       });
      dtemp[task] = sum;
    }
  });
}

struct RotateFunction : Function<RotateFunction> {
  static RoseParams Params(const std::vector<at::Tensor>& saved) {
    return {saved[2], {saved[3], saved[4], saved[5], saved[6]}};
  }
  static Variable forward(AutogradContext* ctx, const Variable& x, const OptionalTensor& freqs,
                          const OptionalTensor& a, const OptionalTensor& b, const OptionalTensor& c,
                          const OptionalTensor& d, const OptionalTensor& temp,
                          const OptionalTensor& spacing, const std::shared_ptr<const Plan>& plan) {
    const auto value = [](const OptionalTensor& t) { return t.value_or(at::Tensor()); };
    const RoseParams params{value(freqs), {value(a), value(b), value(c), value(d)}};
    const at::Tensor tables = Tables(*plan, x, value(spacing), params);
    ReportWork(0, static_cast<int64_t>(2 * x.nbytes()));
    at::Tensor y = at::empty_like(x);
    if (!x.is_meta()) {
      Turn(*plan, tables, Data(x), temp ? *Data(*temp) : 1, false, x.size(0), x.size(1),
           y.data_ptr<float>());
    }
    ctx->save_for_backward({temp ? x : y, value(spacing), params.freqs, params.scale[0],
                            params.scale[1], params.scale[2], params.scale[3], value(temp)});
    ctx->saved_data["plan"] = Hold(plan);
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Plan& plan = *Held<Plan>(ctx->saved_data["plan"]);
    const at::Tensor &kept = saved[0], &spacing = saved[1], &temp = saved[7];
    const RoseParams params = Params(saved);
    const at::Tensor dy = grads[0].contiguous();
    const int64_t batch = dy.size(0), tokens = dy.size(1);
    const at::Tensor tables = Tables(plan, dy, spacing, params);
    ReportWork(0, static_cast<int64_t>(4 * dy.nbytes()));
    variable_list result(9);
    result[0] = at::empty_like(dy);
    const bool real = !dy.is_meta();
    const float t = real && temp.defined() ? *Data(temp) : 1;
    if (real) Turn(plan, tables, Data(dy), t, true, batch, tokens, result[0].data_ptr<float>());
    if (!params.freqs.defined() && !params.scale[0].defined() && !temp.defined()) return result;

    const int64_t segments = static_cast<int64_t>(plan.segments.size()), axes = plan.c.axes;
    const at::Tensor moments =
        at::empty({batch, segments, plan.planes(), axes}, dy.options().dtype(at::kDouble));
    const at::Tensor dtemp = at::empty({batch, plan.c.heads}, moments.options());
    if (params.freqs.defined()) result[1] = at::empty_like(params.freqs);
    for (int i = 0; i < 4; ++i) {
      if (params.scale[i].defined()) result[2 + i] = at::empty_like(params.scale[i]);
    }
    if (temp.defined()) result[6] = at::empty_like(temp);
    if (!real) return result;

    double* m = moments.data_ptr<double>();
    std::fill_n(m, moments.numel(), 0.0);
    Moments(plan, tables, Data(dy), Data(kept), temp.defined(), t, batch, tokens, m,
            dtemp.data_ptr<double>());
    const Values v(plan, params);
    std::vector<double> dfreqs(static_cast<size_t>(plan.planes() * axes));
    double dscale[4][3] = {};
    for (int64_t b = 0; b < batch; ++b) {
      for (const RoseSegment& s : plan.segments) {
        for (int64_t a = 0; a < axes; ++a) {
          const double raw = SpacingOf(spacing, b, s, a), step = v.Transformed(raw, a);
          double dstep = 0;
          for (int64_t p = 0; p < plan.planes(); ++p) {
            const size_t i = static_cast<size_t>(p * axes + a);
            dfreqs[i] += step * m[i];
            dstep += v.freqs[i] * m[i];
          }
          if (params.scale[0].defined()) v.AddGradient(raw, a, dstep, dscale);
        }
        m += plan.planes() * axes;
      }
    }
    const auto store = [](const at::Tensor& to, const double* from) {
      if (!to.defined()) return;
      std::transform(from, from + to.numel(), to.data_ptr<float>(),
                     [](double x) { return static_cast<float>(x); });
    };
    store(result[1], dfreqs.data());
    for (int i = 0; i < 4; ++i) store(result[2 + i], dscale[i]);
    double sum = 0;
    for (int64_t i = 0; i < dtemp.numel(); ++i) sum += dtemp.data_ptr<double>()[i];
    store(result[6], &sum);
    return result;
  }
};

}  // namespace

void AddRoseParams(std::vector<ParamSpec>& params, const std::string& prefix, const RoseConfig& c) {
  if (c.learnable && c.rotated_heads() > 0) {
    InitSpec init{InitSpec::Kind::kGeometric, c.log_theta()};
    init.jitter = c.jitter;
    params.push_back({prefix + "freqs",
                      {c.rotated_heads(), c.planes(), c.axes},
                      DType::kF32,
                      init,
                      /*weight_decay=*/false});
  }
  for (int i = 0; i < 4 && c.learnable_spacing; ++i) {
    const double start = kSpacingStart[static_cast<int>(c.start)][i];
    params.push_back({prefix + "scale_" + "abcd" [i],
                      { c.axes },
                      DType::kF32,
                      {InitSpec::Kind::kConstant, start},
                      /*weight_decay=*/false});
  }
}

RoseParams ReadRoseParams(ParamReader& reader, const RoseConfig& c) {
  RoseParams p;
  p.freqs = reader.NextIf(c.learnable && c.rotated_heads() > 0);
  for (at::Tensor& s : p.scale) s = reader.NextIf(c.learnable_spacing);
  return p;
}

at::Tensor Rotate(const at::Tensor& x, const RoseConfig& c,
                  const std::vector<RoseSegment>& segments, const at::Tensor& spacing,
                  const RoseParams& params, const at::Tensor& temp) {
  TORCH_CHECK(x.dim() == 3 && x.size(2) == c.heads * c.head_width, "RoSE: x is ", x.sizes());
  TORCH_CHECK(c.head_width % 2 == 0, "RoSE: heads of odd width ", c.head_width);
  if (c.rotated_heads() == 0 && !temp.defined()) return x;
  if (!OnHost(x)) return generic::Rotate(x, c, segments, spacing, params, temp);
  TORCH_CHECK(x.scalar_type() == at::kFloat, "RoSE on the CPU: f32");
  auto plan = std::make_shared<Plan>();
  plan->c = c;
  plan->segments = segments;
  if (!params.freqs.defined()) plan->fixed = RoseFrequencies(c);
  // Without a plane there is nothing that the spacing could reach.
  const bool learnt = c.rotated_heads() > 0;
  const auto scale = [&](int i) { return learnt ? Optional(params.scale[i]) : std::nullopt; };
  return RotateFunction::apply(x.contiguous(), Optional(params.freqs), scale(0), scale(1), scale(2),
                               scale(3), Optional(temp), Optional(spacing),
                               std::shared_ptr<const Plan>(std::move(plan)));
}

}  // namespace millrace::rat
