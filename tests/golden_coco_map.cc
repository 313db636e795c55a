// Kind coco_map: the twelve figures of COCO's box evaluation, and average precision by IoU and category.
#include <string>
#include <vector>

#include "data/metrics/detection.h"
#include "graph/base/status.h"
#include "tests/golden_case.h"

namespace millrace {
namespace {

absl::StatusOr<GoldenOutputs> CocoMap(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const int64_t classes = args.Get("classes", int64_t{0});
  args.Get("images", int64_t{0});  // how the inputs were drawn
  RETURN_IF_ERROR(args.AllWereRead());
  ASSIGN_OR_RETURN(const auto objects, c.Input("input.gt_image_cat_xywh_crowd"));
  ASSIGN_OR_RETURN(const auto detections, c.Input("input.det_image_cat_score_xywh"));

  // As two ranks would: even and odd images. Categories count from 1 in the file.
  DetectionMeter meter(classes), other(classes);
  const auto of = [&](int64_t image) -> DetectionMeter& { return image % 2 == 0 ? meter : other; };
  const auto id = [](float f) { return static_cast<int64_t>(f); };
  for (const float* g = objects.data(); g < objects.data() + objects.size(); g += 7) {
    const BoxXywh box{g[2], g[3], g[4], g[5]};
    of(id(g[0])).AddObject({id(g[0]), id(g[1]) - 1, box, box.w * box.h, g[6] != 0});
  }
  for (const float* d = detections.data(); d < detections.data() + detections.size(); d += 7) {
    of(id(d[0])).AddDetection({id(d[0]), id(d[1]) - 1, d[2], {d[3], d[4], d[5], d[6]}});
  }
  meter.Merge(other);
  const DetectionScores scores = meter.Scores();

  const std::vector<float> stats(scores.stats.begin(), scores.stats.end());
  std::vector<float> ap;
  for (size_t t = 0; t < DetectionScores::kThresholds; ++t) {
    for (const auto& category : scores.by_category) ap.push_back(static_cast<float>(category[t]));
  }
  GoldenOutputs outputs;
  outputs.Put("output.stats", {12}, stats.data());
  outputs.Put("output.ap_per_iou_class", {DetectionScores::kThresholds, classes}, ap.data());
  return outputs;
}

REGISTER_GOLDEN_KIND(coco_map, CocoMap);

}  // namespace
}  // namespace millrace
