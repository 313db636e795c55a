// Mean average precision of detected boxes by COCO's rules, equal to what pycocotools computes.
//
//   DetectionMeter meter(/*categories=*/80);
//   meter.AddObject({image, category, {x, y, w, h}, area, /*crowd=*/false});   // ground truth
//   meter.AddDetection({image, category, score, {x, y, w, h}});
//   meter.Merge(other_ranks_meter);
//   DetectionScores s = meter.Scores();                                        // s.ap(), s.ap50(), ...
//
// The rules: within an image and a category the 100 detections of highest score are gone through by descending score,
// each taking the free object of largest IoU at or above the threshold; what meets only a crowd, or has an area outside
// the range asked for, is left out of the count. Precision is made monotonous and read at 101 recalls. Detections of
// equal score keep their order: of addition within an image, of the image's number across images - so the result does
// not depend on which rank saw which image. A NaN score stands last. Not thread-safe.
#ifndef MILLRACE_DATA_METRICS_DETECTION_H_
#define MILLRACE_DATA_METRICS_DETECTION_H_

#include <array>
#include <cstdint>
#include <vector>

namespace millrace {

struct BoxXywh {  // left, top, width, height, in pixels of the image
  double x = 0, y = 0, w = 0, h = 0;
};

struct GroundTruthObject {
  int64_t image = 0, category = 0;  // category: 0, 1, ...
  BoxXywh box;
  double area = 0;     // of the object itself; decides between small, medium and large
  bool crowd = false;  // a group: as many detections as like may lie in it, none has to
};

struct Detection {
  int64_t image = 0, category = 0;
  double score = 0;
  BoxXywh box;
};

struct DetectionScores {
  static constexpr int kThresholds = 10;  // IoU 0.50, 0.55, ..., 0.95

  // AP; AP at IoU 0.5; at 0.75; small (area < 32^2), medium, large (> 96^2); AR of at most 1, 10, 100 detections an
  // image; AR small, medium, large. -1: there is no such object.
  std::array<double, 12> stats;
  std::vector<std::array<double, kThresholds>> by_category;  // AP; -1: no such object

  double ap() const { return stats[0]; }
  double ap50() const { return stats[1]; }
  double ap75() const { return stats[2]; }
  double small() const { return stats[3]; }
  double medium() const { return stats[4]; }
  double large() const { return stats[5]; }
};

class DetectionMeter {
 public:
  explicit DetectionMeter(int64_t categories) : categories_(categories) {}

  // Of a category that does not exist: not counted.
  void AddObject(const GroundTruthObject& object) { objects_.push_back(object); }
  void AddDetection(const Detection& detection) { detections_.push_back(detection); }
  void Merge(const DetectionMeter& other);

  DetectionScores Scores() const;

 private:
  int64_t categories_;
  std::vector<GroundTruthObject> objects_;
  std::vector<Detection> detections_;
};

}  // namespace millrace

#endif  // MILLRACE_DATA_METRICS_DETECTION_H_
