#include "tests/golden_compare.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

using Entry = SafetensorsFile::Entry;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double At(const Entry& t, int64_t i) {
  const uint8_t* p = t.data + i * SizeOf(t.dtype);
  if (t.dtype == DType::kF64) {
    double v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  float v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

std::string ShapeText(const Entry& t) {
  return absl::StrCat(Name(t.dtype), "[", absl::StrJoin(t.shape, ","), "]");
}

// An element that is not finite on either side makes the distance infinite.
void Measure(const Entry& c, const Entry& r, double* distance, double* largest) {
  for (int64_t i = 0; i < r.numel(); ++i) {
    const double want = At(r, i);
    const double d = std::abs(At(c, i) - want);
    *distance = std::isfinite(d) ? std::max(*distance, d) : kInfinity;
    *largest = std::max(*largest, std::abs(want));
  }
}

GoldenDistance CompareTensor(const GoldenCase& golden, const std::string& name, const Entry* c,
                             const Entry& r) {
  GoldenDistance d;
  d.tensor = name;
  if (c == nullptr) {
    d.problem = "is missing";
    return d;
  }
  if (c->dtype != r.dtype || c->shape != r.shape) {
    d.problem = absl::StrCat("is ", ShapeText(*c), ", expected ", ShapeText(r));
    return d;
  }
  if (r.dtype != DType::kF32 && r.dtype != DType::kF64) {
    if (c->bytes != 0 && std::memcmp(c->data, r.data, static_cast<size_t>(r.bytes)) != 0) {
      d.problem = "has other integers than expected";
    }
    return d;
  }
  const auto& tolerance = golden.tolerance.at(absl::StartsWith(name, "grad_") ? "grad" : "forward");
  double rtol = tolerance.at("rtol");
  const auto wider = golden.tolerance.find("tensor_rtol");
  if (wider != golden.tolerance.end()) rtol = std::max(rtol, wider->value(name, rtol));
  double largest = 0;
  Measure(*c, r, &d.distance, &largest);
  d.limit = tolerance.at("atol").get<double>() + rtol * largest;
  return d;
}

}  // namespace

double GoldenDistance::share() const {
  if (!problem.empty() || !std::isfinite(distance)) return kInfinity;
  return distance == 0 ? 0 : distance / limit;
}

absl::StatusOr<GoldenComparison> CompareGolden(const GoldenCase& c, const SafetensorsFile& computed,
                                               const SafetensorsFile& expected) {
  GoldenComparison result;
  const auto add = [&result](const GoldenDistance& d) {
    ++result.tensors;
    if (!d.ok()) ++result.disagreeing;
    if (result.tensors == 1 || d.share() > result.worst.share()) result.worst = d;
  };
  try {
    for (const std::string& name : c.compare) {
      const Entry* want = expected.Find(name);
      if (want == nullptr) {
        return absl::InvalidArgumentError(
            absl::StrCat(expected.path(), " has no tensor '", name, "'"));
      }
      add(CompareTensor(c, name, computed.Find(name), *want));
    }
  } catch (const nlohmann::json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat("tolerance of ", c.name, ": ", e.what()));
  }
  for (const Entry& t : computed.entries()) {
    if (c.Asks(t.name)) continue;
    GoldenDistance d;
    d.tensor = t.name;
    d.problem = "was not asked for";
    add(d);
  }
  return result;
}

std::string GoldenComparison::ToText() const {
  std::string text = absl::StrCat(tensors, " tensors");
  if (disagreeing > 0) absl::StrAppend(&text, ", ", disagreeing, " disagree");
  absl::StrAppend(&text, "; worst: ", worst.tensor, " ");
  if (!worst.problem.empty()) return absl::StrCat(text, worst.problem);
  return absl::StrCat(text, absl::StrFormat("%.3g, limit %.3g (%.3g of it)", worst.distance,
                                            worst.limit, worst.share()));
}

}  // namespace millrace
