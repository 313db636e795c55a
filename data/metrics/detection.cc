#include "data/metrics/detection.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <tuple>
#include <utility>

namespace millrace {
namespace {

constexpr int kThresholds = DetectionScores::kThresholds;
constexpr int kRecalls = 101;
constexpr size_t kMaxDetections = 100;

struct Range {
  double low, high;
  bool Outside(double area) const { return area < low || area > high; }
};
constexpr double kAny = 1e10, kSmall = 32 * 32, kLarge = 96 * 96;
constexpr std::array<Range, 4> kRanges{{{0, kAny}, {0, kSmall}, {kSmall, kLarge}, {kLarge, kAny}}};

// start, start + step, ..., stop as the reference's arithmetic gives them: an IoU of exactly 0.75 is at the threshold.
template <size_t n>
std::array<double, n> Evenly(double start, double stop) {
  std::array<double, n> values;
  const double step = (stop - start) / static_cast<double>(n - 1);
  for (size_t i = 0; i < n; ++i) values[i] = static_cast<double>(i) * step + start;
  values[n - 1] = stop;
  return values;
}

// Of a crowd, the share of the detection that lies in it.
double OverlapOf(const BoxXywh& d, const GroundTruthObject& object) {
  const BoxXywh& g = object.box;
  const double w = std::fmin(d.x + d.w, g.x + g.w) - std::fmax(d.x, g.x);
  if (!(w > 0)) return 0;
  const double h = std::fmin(d.y + d.h, g.y + g.h) - std::fmax(d.y, g.y);
  if (!(h > 0)) return 0;
  const double own = d.w * d.h, inner = w * h;
  return inner / (object.crowd ? own : own + g.w * g.h - inner);
}

// One image and category.
struct Scene {
  std::vector<GroundTruthObject> objects;
  std::vector<Detection> detections;
  std::vector<double> overlap;  // [detections, objects]

  void Prepare() {
    const auto key = [](const Detection& d) {
      return std::isnan(d.score) ? std::numeric_limits<double>::infinity() : -d.score;
    };
    std::stable_sort(detections.begin(), detections.end(),
                     [&](const Detection& a, const Detection& b) { return key(a) < key(b); });
    if (detections.size() > kMaxDetections) detections.resize(kMaxDetections);
    for (const Detection& d : detections) {
      for (const GroundTruthObject& g : objects) overlap.push_back(OverlapOf(d.box, g));
    }
  }
};

enum class Verdict : uint8_t { kRight, kWrong, kLeftOut };

// One detection at one threshold, as all images' detections are ranked together.
struct Ranked {
  double score;
  size_t place;  // within its scene
  Verdict verdict;
};

// Which detection takes which object, and what counts. Returns the number of objects that count.
int64_t Judge(const Scene& scene, const Range& range, double threshold, std::vector<Ranked>* out) {
  const size_t n = scene.objects.size();
  std::vector<char> left_out(n), taken(n);
  for (size_t g = 0; g < n; ++g) {
    left_out[g] = scene.objects[g].crowd || range.Outside(scene.objects[g].area);
  }
  std::vector<size_t> order;  // those that count first
  for (const bool late : {false, true}) {
    for (size_t g = 0; g < n; ++g) {
      if (static_cast<bool>(left_out[g]) == late) order.push_back(g);
    }
  }
  for (size_t d = 0; d < scene.detections.size(); ++d) {
    double best = std::min(threshold, 1 - 1e-10);
    size_t match = n;
    for (const size_t g : order) {
      if (taken[g] && !scene.objects[g].crowd) continue;
      if (match < n && !left_out[match] && left_out[g]) break;
      if (scene.overlap[d * n + g] < best) continue;
      best = scene.overlap[d * n + g];
      match = g;
    }
    const Detection& detection = scene.detections[d];
    Verdict verdict = Verdict::kWrong;
    if (match < n) {
      taken[match] = 1;
      verdict = left_out[match] ? Verdict::kLeftOut : Verdict::kRight;
    } else if (range.Outside(detection.box.w * detection.box.h)) {
      verdict = Verdict::kLeftOut;
    }
    out->push_back({detection.score, d, verdict});
  }
  return std::count(left_out.begin(), left_out.end(), 0);
}

struct Curve {
  double precision = -1, recall = -1;  // mean over the recalls; the last recall; -1: no object
};

Curve CurveOf(const std::vector<Ranked>& ranked, size_t limit, int64_t objects) {
  if (objects == 0) return {};
  static const auto recalls = Evenly<kRecalls>(0, 1);
  std::vector<double> precision, recall;
  double right = 0, wrong = 0;
  for (const Ranked& r : ranked) {
    if (r.place >= limit) continue;
    right += r.verdict == Verdict::kRight;
    wrong += r.verdict == Verdict::kWrong;
    recall.push_back(right / static_cast<double>(objects));
    precision.push_back(right / (wrong + right + std::numeric_limits<double>::epsilon()));
  }
  for (size_t i = precision.size(); i-- > 1;) {
    precision[i - 1] = std::max(precision[i - 1], precision[i]);
  }
  double sum = 0;
  for (const double at : recalls) {
    const auto i = std::lower_bound(recall.begin(), recall.end(), at) - recall.begin();
    if (static_cast<size_t>(i) < precision.size()) sum += precision[static_cast<size_t>(i)];
  }
  return {sum / kRecalls, recall.empty() ? 0 : recall.back()};
}

// The mean of what exists.
class Mean {
 public:
  void Add(double value) {
    if (value < 0) return;
    sum_ += value;
    ++count_;
  }
  double value() const { return count_ == 0 ? -1 : sum_ / count_; }

 private:
  double sum_ = 0;
  int count_ = 0;
};

}  // namespace

void DetectionMeter::Merge(const DetectionMeter& o) {
  objects_.insert(objects_.end(), o.objects_.begin(), o.objects_.end());
  detections_.insert(detections_.end(), o.detections_.begin(), o.detections_.end());
}

DetectionScores DetectionMeter::Scores() const {
  std::vector<std::map<int64_t, Scene>> scenes(static_cast<size_t>(categories_));  // by image
  const auto exists = [this](int64_t c) { return c >= 0 && c < categories_; };
  for (const GroundTruthObject& g : objects_) {
    if (exists(g.category)) {
      scenes[static_cast<size_t>(g.category)][g.image].objects.push_back(g);
    }
  }
  for (const Detection& d : detections_) {
    if (exists(d.category)) {
      scenes[static_cast<size_t>(d.category)][d.image].detections.push_back(d);
    }
  }

  static const auto thresholds = Evenly<kThresholds>(0.5, 0.95);
  std::array<Mean, 12> mean;
  DetectionScores scores;
  for (std::map<int64_t, Scene>& category : scenes) {
    for (auto& [image, scene] : category) scene.Prepare();
    scores.by_category.emplace_back();
    for (size_t r = 0; r < kRanges.size(); ++r) {
      for (size_t t = 0; t < kThresholds; ++t) {
        std::vector<Ranked> ranked;
        int64_t objects = 0;
        for (const auto& [image, scene] : category) {
          objects += Judge(scene, kRanges[r], thresholds[t], &ranked);
        }
        std::stable_sort(ranked.begin(), ranked.end(), [](const Ranked& a, const Ranked& b) {
          return std::isnan(b.score) ? !std::isnan(a.score) : a.score > b.score;
        });
        const Curve all = CurveOf(ranked, kMaxDetections, objects);
        if (r == 0) {
          scores.by_category.back()[t] = all.precision;
          mean[0].Add(all.precision);
          if (t == 0) mean[1].Add(all.precision);
          if (t == 5) mean[2].Add(all.precision);
          mean[6].Add(CurveOf(ranked, 1, objects).recall);
          mean[7].Add(CurveOf(ranked, 10, objects).recall);
          mean[8].Add(all.recall);
        } else {
          mean[2 + r].Add(all.precision);
          mean[8 + r].Add(all.recall);
        }
      }
    }
  }
  for (size_t i = 0; i < mean.size(); ++i) scores.stats[i] = mean[i].value();
  return scores;
}

}  // namespace millrace
