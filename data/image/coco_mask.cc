#include "data/image/coco_mask.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace millrace {
namespace {

// The compressed form's alphabet: 64 characters from '0' on. Bit 5: more follow; bit 4 of the last
// one is the sign.
constexpr char kZero = '0';
constexpr int kMore = 0x20, kSign = 0x10, kBits = 0x1f;

}  // namespace

absl::StatusOr<Rle> RleFromCounts(std::vector<int64_t> counts, int height, int width) {
  int64_t sum = 0;
  const int64_t area = int64_t{height} * width;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] < 0 || counts[i] > area) {
      return absl::InvalidArgumentError(
          absl::StrCat("run ", i, " of the RLE is ", counts[i], ", expected 0..", area));
    }
    sum += counts[i];
  }
  if (sum != area) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the runs of the RLE are ", sum, " pixels, expected ", height, " x ", width, " = ", area));
  }
  return Rle{height, width, std::move(counts)};
}

absl::StatusOr<Rle> RleFromString(absl::string_view text, int height, int width) {
  std::vector<int64_t> counts;
  for (size_t at = 0; at < text.size();) {
    uint64_t value = 0;
    int shift = 0;
    while (true) {
      const int c = at < text.size() ? text[at] - kZero : -1;
      if (c < 0 || c > 63 || shift > 40) {
        return absl::InvalidArgumentError(
            absl::StrCat("the compressed RLE is wrong at character ", at, " of ", text.size()));
      }
      ++at;
      value |= static_cast<uint64_t>(c & kBits) << shift;
      shift += 5;
      if ((c & kMore) != 0) continue;
      if ((c & kSign) != 0) value |= ~uint64_t{0} << shift;
      break;
    }
    const int64_t before = counts.size() > 2 ? counts[counts.size() - 2] : 0;
    counts.push_back(before + static_cast<int64_t>(value));
  }
  return RleFromCounts(std::move(counts), height, width);
}

std::string RleToString(const Rle& rle) {
  std::string text;
  for (size_t i = 0; i < rle.counts.size(); ++i) {
    int64_t value = rle.counts[i] - (i > 2 ? rle.counts[i - 2] : 0);
    bool more = true;
    while (more) {
      int c = static_cast<int>(value & kBits);
      value >>= 5;
      more = (c & kSign) != 0 ? value != -1 : value != 0;
      if (more) c |= kMore;
      text.push_back(static_cast<char>(c + kZero));
    }
  }
  return text;
}

Rle RleOf(absl::Span<const uint8_t> mask, int height, int width) {
  Rle rle{height, width, {}};
  bool inside = false;
  int64_t run = 0;
  for (int x = 0; x < width; ++x) {
    for (int y = 0; y < height; ++y) {
      const bool now = mask[static_cast<size_t>(y) * width + x] != 0;
      if (now != inside) {
        rle.counts.push_back(run);
        run = 0;
        inside = now;
      }
      ++run;
    }
  }
  rle.counts.push_back(run);
  return rle;
}

std::vector<uint8_t> MaskOf(const Rle& rle) {
  std::vector<uint8_t> mask(static_cast<size_t>(rle.height) * rle.width);
  int64_t at = 0;
  for (size_t i = 0; i < rle.counts.size(); at += rle.counts[i++]) {
    if (i % 2 == 0) continue;
    for (int64_t k = at; k < at + rle.counts[i]; ++k) {
      mask[static_cast<size_t>(k % rle.height) * rle.width + k / rle.height] = 1;
    }
  }
  return mask;
}

int64_t AreaOf(const Rle& rle) {
  int64_t area = 0;
  for (size_t i = 1; i < rle.counts.size(); i += 2) area += rle.counts[i];
  return area;
}

PixelBox BoxOf(const Rle& rle) {
  int64_t left = rle.width, right = -1, top = rle.height, bottom = -1, at = 0;
  for (size_t i = 0; i < rle.counts.size(); at += rle.counts[i++]) {
    if (i % 2 == 0 || rle.counts[i] == 0) continue;
    const int64_t last = at + rle.counts[i] - 1;
    left = std::min(left, at / rle.height);
    right = std::max(right, last / rle.height);
    // A run that goes on in the next column covers the end of one and the beginning of the other.
    const bool one_column = at / rle.height == last / rle.height;
    top = std::min(top, one_column ? at % rle.height : 0);
    bottom = std::max(bottom, one_column ? last % rle.height : rle.height - 1);
  }
  if (right < 0) return {};
  return {static_cast<double>(left), static_cast<double>(top),
          static_cast<double>(right - left + 1), static_cast<double>(bottom - top + 1)};
}

std::vector<PixelRun> RunsOf(absl::Span<const double> polygon, int height, int width) {
  const size_t n = polygon.size() / 2;
  std::vector<PixelRun> runs;
  if (n < 3) return runs;
  double low = polygon[1], high = polygon[1];
  for (size_t i = 1; i < n; ++i) {
    low = std::min(low, polygon[2 * i + 1]);
    high = std::max(high, polygon[2 * i + 1]);
  }
  const int top = static_cast<int>(std::clamp(std::floor(low), 0.0, static_cast<double>(height)));
  const int end = static_cast<int>(std::clamp(std::ceil(high), 0.0, static_cast<double>(height)));
  std::vector<double> crossings;
  for (int y = top; y < end; ++y) {
    const double centre = y + 0.5;
    crossings.clear();
    for (size_t i = 0; i < n; ++i) {
      const size_t j = (i + 1) % n;
      const double x0 = polygon[2 * i], y0 = polygon[2 * i + 1];
      const double x1 = polygon[2 * j], y1 = polygon[2 * j + 1];
      if ((y0 <= centre) != (y1 <= centre)) {
        crossings.push_back(x0 + (centre - y0) / (y1 - y0) * (x1 - x0));
      }
    }
    std::sort(crossings.begin(), crossings.end());
    for (size_t i = 0; i + 1 < crossings.size(); i += 2) {
      // Centres x + 0.5 in [crossing, next crossing).
      const auto bound = [width](double x) {
        return static_cast<int>(std::clamp(std::ceil(x - 0.5), 0.0, static_cast<double>(width)));
      };
      const int first = bound(crossings[i]), last = bound(crossings[i + 1]);
      if (first < last) runs.push_back({y, first, last});
    }
  }
  return runs;
}

std::vector<uint8_t> FillPolygons(const std::vector<std::vector<double>>& polygons, int height,
                                  int width) {
  std::vector<uint8_t> mask(static_cast<size_t>(height) * width);
  for (const std::vector<double>& polygon : polygons) {
    for (const PixelRun& run : RunsOf(polygon, height, width)) {
      std::fill(mask.begin() + static_cast<int64_t>(run.y) * width + run.first,
                mask.begin() + static_cast<int64_t>(run.y) * width + run.last, uint8_t{1});
    }
  }
  return mask;
}

}  // namespace millrace
