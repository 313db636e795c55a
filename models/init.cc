#include "models/init.h"

#include <algorithm>
#include <cmath>

#include "graph/base/random.h"

namespace millrace {
namespace {

// Inverse of the standard normal distribution function, Acklam's rational approximation: relative error
// below 1.2e-9. One uniform number gives one value, so nothing is rejected and index i needs block i only.
double NormalQuantile(double p) {
  constexpr double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                          1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
  constexpr double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                          6.680131188771972e+01, -1.328068155288572e+01};
  constexpr double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                          -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
  constexpr double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                          3.754408661907416e+00};
  constexpr double kTail = 0.02425;
  if (p > 0.5) return -NormalQuantile(1 - p);
  if (p < kTail) {
    const double q = std::sqrt(-2 * std::log(p));
    return (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
           ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
  }
  const double q = p - 0.5, r = q * q;
  return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
         (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
}

constexpr double kBelowMinusTwo = 0.022750131948179195;  // standard normal mass below -2

}  // namespace

void FillParam(const ParamSpec& spec, uint64_t seed, int64_t begin, int64_t end, float* out) {
  const CounterRng rng(seed, HashString(spec.name));
  const double scale = spec.init.scale;
  const int64_t limit = std::max(begin, std::min(end, spec.numel()));
  std::fill(out + (limit - begin), out + (end - begin), 0.0f);
  const auto fill = [&](auto&& value) {
    for (int64_t i = begin; i < limit; ++i) out[i - begin] = static_cast<float>(value(i));
  };
  switch (spec.init.kind) {
    case InitSpec::Kind::kZeros:
      fill([](int64_t) { return 0.0; });
      break;
    case InitSpec::Kind::kOnes:
      fill([](int64_t) { return 1.0; });
      break;
    case InitSpec::Kind::kConstant:
      fill([&](int64_t) { return scale; });
      break;
    case InitSpec::Kind::kNormal:
      fill([&](int64_t i) { return scale * rng.Normal(i); });
      break;
    case InitSpec::Kind::kTruncatedNormal:
      fill([&](int64_t i) {
        const double u = rng.Uniform(i);
        return scale * NormalQuantile(kBelowMinusTwo + u * (1 - 2 * kBelowMinusTwo));
      });
      break;
    case InitSpec::Kind::kUniform:
      fill([&](int64_t i) { return spec.init.offset + scale * (2 * rng.Uniform(i) - 1); });
      break;
    case InitSpec::Kind::kGeometric: {
      const int64_t last = spec.shape.empty() ? 1 : spec.shape.back();
      const double rows = static_cast<double>(spec.numel() / last);
      fill([&](int64_t i) {
        const double row = static_cast<double>(i / last);
        return std::exp(-scale * row / rows + spec.init.jitter * rng.Normal(i));
      });
      break;
    }
  }
}

}  // namespace millrace
