#include "models/rat/generic_parts.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bitwise_right_shift.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>

#include <cmath>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "graph/base/random.h"

namespace millrace::rat::generic {
namespace {

at::TensorOptions Double(const at::Tensor& like) {
  return like.options().dtype(at::kDouble).requires_grad(false);
}
at::Tensor Range(int64_t n, const at::Tensor& like) { return at::arange(n, Double(like)); }

// Numbers of the host on a device, copied once.
at::Tensor Constant(const std::vector<float>& values, const at::Tensor& like) {
  const int64_t n = static_cast<int64_t>(values.size());
  const at::TensorOptions f32 = like.options().dtype(at::kFloat).requires_grad(false);
  if (like.is_meta()) return at::empty({n}, f32);
  static std::mutex mutex;
  static auto* made = new std::map<std::pair<std::string, std::vector<float>>, at::Tensor>;
  const std::lock_guard<std::mutex> lock(mutex);
  at::Tensor& t = (*made)[{like.device().str(), values}];
  if (!t.defined()) {
    const at::Tensor host = at::empty({n}, at::TensorOptions().dtype(at::kFloat));
    std::copy(values.begin(), values.end(), host.data_ptr<float>());
    t = host.to(like.device());
  }
  return t;
}

// spacing' = A s^B + C ln(s / max(D, 1e-8)), as in rose.h; of s where that is no number, 0 of what is not positive.
at::Tensor Transformed(const at::Tensor& s, int64_t axis, const RoseConfig& c,
                       const RoseParams& params) {
  if (!c.learnable_spacing && c.start == SpacingStart::kIdentity) return s;
  at::Tensor p[4];
  for (int i = 0; i < 4; ++i) {
    p[i] = params.scale[i].defined()
               ? params.scale[i].select(0, axis).to(at::kDouble)
               : at::full({}, kSpacingStart[static_cast<int>(c.start)][i], Double(s));
  }
  const at::Tensor positive = s.gt(0), one = at::full({}, 1.0, Double(s));
  const at::Tensor from = at::where(positive, s, one);
  // s^B as exp(B ln s): the derivative of LibTorch's power has no shapes on the meta device.
  const at::Tensor y =
      p[0] * (p[1] * at::log(from)).exp() + p[2] * at::log(from / p[3].clamp_min(1e-8));
  const at::Tensor ratio = y.detach() / from, sound = (ratio - ratio).eq(0);  // finite
  return at::where(positive, at::where(sound, y, from), at::full({}, 0.0, Double(s)));
}

// Cosine and sine, f32 [S, tokens, planes] with S of the spacing.
std::pair<at::Tensor, at::Tensor> Angles(const RoseSegment& segment, const at::Tensor& freqs,
                                         const at::Tensor& spacing, const RoseConfig& c,
                                         const RoseParams& params, const at::Tensor& like) {
  const int64_t planes = freqs.size(0);
  at::Tensor cosine, sine;
  for (int64_t a = 0; a < c.axes; ++a) {
    const auto i = static_cast<size_t>(a);
    at::Tensor step =
        spacing.defined()
            ? spacing.select(1, segment.scale).select(1, a).to(at::kDouble) * segment.factor[i]
            : at::full({1}, segment.factor[i], Double(like));
    step = Transformed(step, a, c, params);
    std::vector<int64_t> shape(static_cast<size_t>(c.axes) + 2, 1);
    shape.front() = step.size(0), shape[i + 1] = segment.grid[i], shape.back() = planes;
    const at::Tensor angle = Range(segment.grid[i], like).view({1, -1, 1}) * step.view({-1, 1, 1}) *
                             freqs.select(1, a).view({1, 1, planes});
    const at::Tensor cos = angle.cos().to(at::kFloat).view(shape);
    const at::Tensor sin = angle.sin().to(at::kFloat).view(shape);
    if (a == 0) {
      cosine = cos, sine = sin;
      continue;
    }
    const at::Tensor both = cosine * cos - sine * sin;
    sine = cosine * sin + sine * cos;
    cosine = both;
  }
  return {cosine.reshape({cosine.size(0), -1, planes}), sine.reshape({sine.size(0), -1, planes})};
}

// 32-bit numbers in 64-bit elements: LibTorch multiplies no unsigned ones.
constexpr int64_t kLow = 0xffffffff;
at::Tensor High(const at::Tensor& product) {
  return at::bitwise_right_shift(product, at::Scalar(int64_t{32})).bitwise_and(at::Scalar(kLow));
}
at::Tensor Low(const at::Tensor& x) { return x.bitwise_and(at::Scalar(kLow)); }

// Philox4x32 of graph/base/random.h: the four words of blocks 0 .. n - 1 of each key, [B, n, 4].
at::Tensor RandomWords(const at::Tensor& keys, uint64_t stream, int64_t n) {
  const auto word = [&](uint64_t w) {
    return at::full({1, 1}, static_cast<int64_t>(w), keys.options());
  };
  at::Tensor counter[4] = {at::arange(n, keys.options()).view({1, n}), word(0), word(stream & kLow),
                           word(stream >> 32)};
  at::Tensor key[2] = {Low(keys).view({-1, 1}), High(keys).view({-1, 1})};
  for (int round = 0; round < 10; ++round) {
    const at::Tensor p0 = counter[0] * int64_t{0xD2511F53}, p1 = counter[2] * int64_t{0xCD9E8D57};
    counter[0] = High(p1).bitwise_xor(counter[1]).bitwise_xor(key[0]);
    counter[2] = High(p0).bitwise_xor(counter[3]).bitwise_xor(key[1]);
    counter[1] = Low(p1), counter[3] = Low(p0);
    key[0] = Low(key[0] + int64_t{0x9E3779B9});
    key[1] = Low(key[1] + int64_t{0xBB67AE85});
  }
  const std::vector<int64_t> shape{keys.numel(), n};
  std::vector<at::Tensor> words;
  for (const at::Tensor& w : counter) words.push_back(w.expand(shape));
  return at::stack(words, 2);
}

// Which tokens of a grid each of `size` pixels lies between, and how near: [size, grid].
at::Tensor BilinearWeights(int64_t grid, int64_t size, const at::Tensor& like) {
  const double step = static_cast<double>(grid) / static_cast<double>(size);
  const at::Tensor at =
      ((Range(size, like) + 0.5) * step - 0.5).clamp(0.0, static_cast<double>(grid - 1));
  const at::Tensor beyond = at.view({size, 1}) - Range(grid, like).view({1, grid});
  return at::minimum(1 - beyond, 1 + beyond).clamp_min(0.0).to(at::kFloat);
}

}  // namespace

at::Tensor Rotate(const at::Tensor& x, const RoseConfig& c,
                  const std::vector<RoseSegment>& segments, const at::Tensor& spacing,
                  const RoseParams& params, const at::Tensor& temp) {
  const int64_t planes = c.rotated_heads() * c.planes(), width = x.size(2);
  const auto scaled = [&](const at::Tensor& y) { return temp.defined() ? y * temp : y; };
  if (planes == 0) return scaled(x);
  const at::Tensor freqs = (params.freqs.defined() ? params.freqs : Constant(RoseFrequencies(c), x))
                               .to(at::kDouble)
                               .reshape({planes, c.axes});
  std::vector<at::Tensor> parts;
  int64_t begin = 0;
  const auto keep_until = [&](int64_t end) {
    if (end > begin) parts.push_back(x.narrow(1, begin, end - begin));
    begin = end;
  };
  for (const RoseSegment& s : segments) {
    keep_until(s.begin);
    const auto [cosine, sine] = Angles(s, freqs, spacing, c, params, x);
    const int64_t tokens = cosine.size(1);
    const at::Tensor part = x.narrow(1, begin, tokens);
    const at::Tensor pairs =
        part.narrow(2, 0, 2 * planes).reshape({x.size(0), tokens, planes, 2}).to(at::kFloat);
    const at::Tensor x0 = pairs.select(3, 0), x1 = pairs.select(3, 1);
    at::Tensor y = at::stack({x0 * cosine - x1 * sine, x0 * sine + x1 * cosine}, 3)
                       .to(x.scalar_type())
                       .view({x.size(0), tokens, 2 * planes});
    if (2 * planes < width) y = at::cat({y, part.narrow(2, 2 * planes, width - 2 * planes)}, 2);
    parts.push_back(y);
    begin += tokens;
  }
  keep_until(x.size(1));
  return scaled(parts.size() == 1 ? parts[0] : at::cat(parts, 1));
}

void DropInPlace(const at::Tensor& x, const Dropout& dropout, uint64_t place) {
  // As the CPU: sixteen random bits an element, eight elements a block.
  const int64_t threshold = std::lround(dropout.p * 65536);
  const double kept = 65536.0 / (65536.0 - static_cast<double>(threshold));
  const int64_t samples = dropout.keys.numel(), n = x.numel() / samples;
  const at::Tensor words =
      RandomWords(dropout.keys, HashCombine(dropout.layer, place), (n + 7) / 8);
  const at::Tensor bits = at::stack({words.bitwise_and(at::Scalar(int64_t{0xffff})),
                                     at::bitwise_right_shift(words, at::Scalar(int64_t{16}))},
                                    3)
                              .view({samples, -1})
                              .narrow(1, 0, n);
  const at::Tensor all = dropout.keys.eq(0).view({samples, 1});
  const at::Tensor factor = bits.ge(threshold).to(at::kFloat).mul_(kept).masked_fill_(all, 1.0);
  x.view({samples, n}).mul_(factor);
}

at::Tensor Upsample(const at::Tensor& tokens, const std::vector<int64_t>& grid,
                    const std::vector<int64_t>& size) {
  const int64_t batch = tokens.size(0), classes = tokens.size(2);
  const at::Tensor maps =
      tokens.to(at::kFloat).transpose(1, 2).reshape({batch * classes, grid[0], grid[1]});
  const auto of_all = [&](const at::Tensor& weights) {
    return weights.unsqueeze(0).expand({batch * classes, -1, -1});
  };
  const at::Tensor rows = BilinearWeights(grid[0], size[0], tokens);
  const at::Tensor columns = BilinearWeights(grid[1], size[1], tokens);
  return at::bmm(at::bmm(of_all(rows), maps), of_all(columns).transpose(1, 2))
      .view({batch, classes, size[0], size[1]});
}

at::Tensor AbsolutePositions(const at::Tensor& x, const std::vector<int64_t>& grid,
                             const at::Tensor& spacing) {
  const int64_t n = x.size(1), width = x.size(2);
  const double per_axis = static_cast<double>(width / 2);
  const at::Tensor token = Range(n, x).view({1, n, 1});
  const double columns = static_cast<double>(grid[1]);
  const at::Tensor row = (token / columns).floor(), column = token - row * columns;
  const at::Tensor channel = Range(width, x).view({1, 1, width});
  const at::Tensor second = channel.ge(per_axis).to(at::kDouble);  // whether of the second axis
  const at::Tensor pair = ((channel - second * per_axis) / 2).floor();
  const at::Tensor frequency = (pair * (std::log(1e-4) * 2 / per_axis)).exp();
  const at::Tensor step = spacing.to(at::kDouble).unsqueeze(1).unsqueeze(1);  // [B, 1, 1, 2]
  const at::Tensor angle =
      (row * step.select(3, 0) * (1 - second) + column * step.select(3, 1) * second) * frequency;
  const at::Tensor odd = channel - (channel / 2).floor() * 2;
  return (angle.sin() * (1 - odd) + angle.cos() * odd).to(x.scalar_type());
}

}  // namespace millrace::rat::generic
