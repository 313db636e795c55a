#include "data/synthetic_source.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "graph/base/findings.h"
#include "graph/base/random.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

bool IsNamed(absl::string_view name, absl::string_view base) {
  return name == base || absl::StartsWith(name, absl::StrCat(base, "."));
}

class Source : public SampleSource {
 public:
  explicit Source(const SyntheticSourceOptions& options) : options_(options) {
    for (const FieldSpec& field : options.fields) {
      values_.emplace_back(static_cast<size_t>(field.bytes() * options.count));
      for (int64_t i = 0; i < options.count; ++i) {
        Fill(field, options.first + i, values_.back().data() + i * field.bytes());
      }
    }
  }

  int64_t size() const override { return options_.count; }
  const std::vector<FieldSpec>& fields() const override { return options_.fields; }
  std::string description() const override {
    return absl::StrCat("synthetic (seed ", options_.seed, ") [", options_.first, ", ",
                        options_.first + options_.count, ")");
  }
  std::string NameOf(int64_t index) const override { return absl::StrCat("sample ", index); }

  absl::Status Get(int64_t index, const SampleKey& key, absl::Span<void* const> out,
                   SampleScratch*) const override {
    if (index < 0 || index >= options_.count) {
      return absl::OutOfRangeError(
          absl::StrCat("sample ", index, " does not exist in ", description()));
    }
    for (size_t f = 0; f < values_.size(); ++f) {
      const int64_t bytes = options_.fields[f].bytes();
      std::memcpy(out[f], values_[f].data() + index * bytes, bytes);
      if (options_.fields[f].name == "keys") *static_cast<int64_t*>(out[f]) = key.value();
    }
    return absl::OkStatus();
  }

 private:
  void Fill(const FieldSpec& field, int64_t id, uint8_t* out) const {
    // All tensors of one kind of a sample share the generator: boxes and classes agree on how many
    // there are.
    const bool objects = field.name == "boxes" || field.name == "classes";
    const CounterRng rng(
        options_.seed,
        HashCombine(HashString(absl::StrCat("synthetic.", objects ? "objects" : field.name)),
                    static_cast<uint64_t>(id)));
    auto* const floats = reinterpret_cast<float*>(out);
    auto* const integers = reinterpret_cast<int64_t*>(out);
    if (IsNamed(field.name, "images")) {
      for (int64_t i = 0; i < field.elements(); ++i) floats[i] = static_cast<float>(rng.Normal(i));
    } else if (IsNamed(field.name, "masks")) {
      // The same ellipse at every scale.
      const CounterRng place(options_.seed, HashCombine(HashString("synthetic.masks"), id));
      const double cx = 0.3 + 0.4 * place.Uniform(0), cy = 0.3 + 0.4 * place.Uniform(1);
      const double rx = 0.1 + 0.2 * place.Uniform(2), ry = 0.1 + 0.2 * place.Uniform(3);
      const int64_t height = field.shape[0], width = field.shape[1];
      for (int64_t y = 0; y < height; ++y) {
        for (int64_t x = 0; x < width; ++x) {
          *out++ = std::hypot(((x + 0.5) / width - cx) / rx, ((y + 0.5) / height - cy) / ry) < 1;
        }
      }
    } else if (field.name == "labels") {
      integers[0] = static_cast<int64_t>(rng.Below(0, options_.classes));
    } else if (objects) {
      const int64_t room = field.shape[0];
      const int64_t count = static_cast<int64_t>(rng.Below(0, std::min<int64_t>(room, 7) + 1));
      for (int64_t m = 0; m < room; ++m) {
        const bool there = m < count;
        const uint64_t at = 8 * static_cast<uint64_t>(m + 1);
        if (field.name == "classes") {
          integers[m] = there ? static_cast<int64_t>(rng.Below(at, options_.classes)) : -1;
          continue;
        }
        for (int k = 0; k < 2; ++k) {
          const double size = 0.05 + 0.3 * rng.Uniform(at + 1 + k);
          const double centre = size / 2 + (1 - size) * rng.Uniform(at + 3 + k);
          floats[4 * m + k] = there ? static_cast<float>(centre) : 0;
          floats[4 * m + 2 + k] = there ? static_cast<float>(size) : 0;
        }
      }
    } else if (field.name == "spacing") {
      const FieldSpec* first = nullptr;
      int64_t scale = 0;
      for (const FieldSpec& f : options_.fields) {
        if (!IsNamed(f.name, "images") || scale >= field.shape[0]) continue;
        if (first == nullptr) first = &f;
        for (int k = 0; k < 2; ++k) {
          floats[2 * scale + k] =
              static_cast<float>(first->shape[1 + k]) / static_cast<float>(f.shape[1 + k]);
        }
        ++scale;
      }
    }
  }

  const SyntheticSourceOptions options_;
  std::vector<std::vector<uint8_t>> values_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const SampleSource>> MakeSyntheticSource(
    const SyntheticSourceOptions& options) {
  Findings findings;
  double bytes = 0;
  for (const FieldSpec& f : options.fields) {
    const auto is = [&f](DType dtype, size_t dimensions) {
      return f.dtype == dtype && f.shape.size() == dimensions;
    };
    const bool good = IsNamed(f.name, "images")                  ? is(DType::kF32, 3)
                      : IsNamed(f.name, "masks")                 ? is(DType::kU8, 2)
                      : f.name == "boxes" || f.name == "spacing" ? is(DType::kF32, 2)
                      : f.name == "classes"                      ? is(DType::kI64, 1)
                      : f.name == "labels" || f.name == "keys"   ? is(DType::kI64, 0)
                                                                 : false;
    if (!good) {
      findings.Add({.check = "synthetic",
                    .message = absl::StrCat("nothing is known to fill '", f.name, "' ", ToText(f),
                                            " of the model's batch with")});
    }
    bytes += static_cast<double>(f.bytes()) * static_cast<double>(options.count);
  }
  if (options.count < 1) {
    findings.Add({.check = "synthetic", .message = "count is 0, expected 1 or more samples"});
  }
  RETURN_IF_ERROR(findings.ToStatus());
  const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  if (bytes > memory / 2) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "synthetic: ", options.count, " samples take ", static_cast<int64_t>(bytes / (1 << 20)),
        " MiB of this machine's ", static_cast<int64_t>(memory / (1 << 20)),
        " MiB; help: lower count, a timing run reuses them"));
  }
  return std::make_shared<const Source>(options);
}

}  // namespace millrace
