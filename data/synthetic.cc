#include "data/synthetic.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "data/byte_dataset.h"
#include "graph/base/findings.h"
#include "graph/base/random.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

class SyntheticDataset : public Dataset {
 public:
  SyntheticDataset(const DatasetOptions& options, std::vector<float> pixels,
                   std::vector<int64_t> labels)
      : options_(options), pixels_(std::move(pixels)), labels_(std::move(labels)) {}

  int64_t size() const override { return options_.count; }
  ImageShape shape() const override { return options_.shape; }
  int classes() const override { return options_.classes; }
  std::string description() const override {
    const ImageShape& s = options_.shape;
    return absl::StrCat("synthetic (seed ", options_.seed, ") [", options_.first, ", ",
                        options_.first + options_.count, "): ", size(), " images of ", s.channels,
                        "x", s.height, "x", s.width, ", ", options_.classes, " classes");
  }
  absl::Status Get(int64_t index, absl::Span<float> pixels, int64_t* label) const override {
    RETURN_IF_ERROR(CheckGet(*this, index, pixels.size()));
    std::memcpy(pixels.data(), pixels_.data() + index * shape().elements(),
                pixels.size() * sizeof(float));
    *label = labels_[index];
    return absl::OkStatus();
  }

 private:
  const DatasetOptions options_;
  const std::vector<float> pixels_;
  const std::vector<int64_t> labels_;
};

// Four normal values from the four words of one block: a quarter of CounterRng::Normal's cost,
// which is what a pool of large images is worth (single precision is all that a pixel keeps).
void FillNormal(const CounterRng& rng, absl::Span<float> out) {
  constexpr float kUnit = 1.0f / 16777216.0f;  // 24 bits: what a float holds
  for (size_t i = 0; i < out.size(); i += 4) {
    const auto block = rng.Block(i / 4);
    float values[4];
    for (int pair = 0; pair < 2; ++pair) {
      // (0, 1]: the logarithm of 0 must not be asked for.
      const float u = (static_cast<float>(block[2 * pair] >> 8) + 1.0f) * kUnit;
      const float angle =
          6.28318530717958647692f * kUnit * static_cast<float>(block[2 * pair + 1] >> 8);
      const float radius = std::sqrt(-2.0f * std::log(u));
      values[2 * pair] = radius * std::cos(angle);
      values[2 * pair + 1] = radius * std::sin(angle);
    }
    std::memcpy(out.data() + i, values, std::min<size_t>(4, out.size() - i) * sizeof(float));
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Dataset>> MakeSynthetic(const DatasetOptions& options) {
  Findings findings;
  const auto require = [&findings](bool ok, std::string message) {
    if (!ok) findings.Add({.check = "synthetic", .message = std::move(message)});
  };
  const ImageShape& s = options.shape;
  require(s.channels > 0 && s.height > 0 && s.width > 0,
          absl::StrCat("the image shape is ", s.channels, "x", s.height, "x", s.width,
                       ", expected channels, height and width above 0"));
  require(options.classes > 0,
          absl::StrCat("the number of classes is ", options.classes, ", expected at least 1"));
  require(options.count > 0, absl::StrCat("count is ", options.count,
                                          ", expected how many images to "
                                          "generate"));
  require(options.first >= 0, absl::StrCat("first is ", options.first, ", expected 0 or more"));
  RETURN_IF_ERROR(findings.ToStatus());

  const double bytes = 4.0 * s.channels * s.height * s.width * static_cast<double>(options.count);
  const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  if (bytes > memory / 2) {
    return absl::ResourceExhaustedError(
        absl::StrCat("synthetic: ", options.count, " images of ", s.channels, "x", s.height, "x",
                     s.width, " take ", static_cast<int64_t>(bytes / (1 << 20)),
                     " MiB of this machine's ", static_cast<int64_t>(memory / (1 << 20)),
                     " MiB; help: lower count, a timing run reuses them"));
  }
  const int64_t n = s.elements();
  std::vector<float> pixels(static_cast<size_t>(n * options.count));
  std::vector<int64_t> labels(static_cast<size_t>(options.count));
  const CounterRng label_rng(options.seed, HashString("synthetic.label"));
  for (int64_t i = 0; i < options.count; ++i) {
    const uint64_t id = static_cast<uint64_t>(options.first + i);
    FillNormal(CounterRng(options.seed, HashCombine(HashString("synthetic.pixels"), id)),
               absl::MakeSpan(pixels).subspan(i * n, n));
    labels[i] = static_cast<int64_t>(label_rng.Below(id, options.classes));
  }
  return std::make_shared<const SyntheticDataset>(options, std::move(pixels), std::move(labels));
}

}  // namespace millrace
