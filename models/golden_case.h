// Golden cases for tests: the tensors of a safetensors file, a line of the manifest, and the values of
// formula-filled parameters (tests/golden).
#ifndef MILLRACE_MODELS_GOLDEN_CASE_H_
#define MILLRACE_MODELS_GOLDEN_CASE_H_

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <cstdint>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "graph/ir/model_spec.h"
#include "gtest/gtest.h"

namespace millrace {

using Json = nlohmann::json;
using NamedTensors = std::map<std::string, at::Tensor>;

inline constexpr char kGolden[] = "tests/golden/";

inline NamedTensors ReadSafetensors(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  uint64_t size = 0;
  file.read(reinterpret_cast<char*>(&size), 8);
  std::string header(size, ' ');
  file.read(header.data(), static_cast<std::streamsize>(size));
  NamedTensors result;
  const Json entries = Json::parse(header);
  for (const auto& [name, entry] : entries.items()) {
    if (name == "__metadata__") continue;
    const bool is_float = entry["dtype"] == "F32";
    EXPECT_TRUE(is_float || entry["dtype"] == "I64") << name;
    at::Tensor t =
        at::zeros(entry["shape"].get<std::vector<int64_t>>(), is_float ? at::kFloat : at::kLong);
    file.seekg(static_cast<std::streamoff>(8 + size + entry["data_offsets"][0].get<uint64_t>()));
    file.read(static_cast<char*>(t.data_ptr()), static_cast<std::streamsize>(t.nbytes()));
    result[name] = t;
  }
  return result;
}

inline Json ManifestLine(const std::string& name) {
  std::ifstream file(std::string(kGolden) + "manifest.jsonl");
  std::string line;
  while (std::getline(file, line)) {
    Json entry = Json::parse(line);
    if (entry["case"] == name) return entry;
  }
  ADD_FAILURE() << "no case " << name;
  return {};
}

// The deterministic values of a formula-filled tensor, -1 <= u < 1.
template <typename F>
void ForFormula(const std::string& name, int64_t n, F&& f) {
  uint32_t h = 2166136261u;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 16777619u;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t x = static_cast<uint32_t>(i) * 2654435761u + h;
    x ^= x >> 16, x *= 0x7FEB352Du, x ^= x >> 15, x *= 0x846CA68Bu, x ^= x >> 16;
    f(i, x / 2147483648.0 - 1);
  }
}

inline void FillByFormula(const ParamSpec& p, at::Tensor& t) {
  double scale = 0.1, base = 0;
  if (p.name.size() > 7 && p.name.substr(p.name.size() - 7) == ".weight") {
    if (p.shape.size() == 1) base = 1;
    if (p.shape.size() >= 2) {
      const double fan_in = static_cast<double>(p.numel() / p.shape[0]);
      scale = std::sqrt((p.shape.size() == 4 ? 6.0 : 3.0) / fan_in);
    }
  }
  float* out = t.data_ptr<float>();
  ForFormula(p.name, p.numel(),
             [&](int64_t i, double u) { out[i] = static_cast<float>(base + scale * u); });
}

}  // namespace millrace

#endif  // MILLRACE_MODELS_GOLDEN_CASE_H_
