// Boxes as detection models predict them - centre x, centre y, width, height - and how much two of them overlap:
// IoU, and GIoU, which also tells apart boxes that do not meet (GIoU = IoU - empty share of the box around both).
//
//   const Overlap o = BoxOverlap(ToCorners(predicted), ToCorners(target));
//   loss += 1 - o.giou;
//   AddOverlapGradient(predicted, target, /*iou=*/0, /*giou=*/-1, d_predicted, /*d_target=*/nullptr);
//
// Arithmetic is double; boxes without area overlap nothing and give no gradient through a division by zero.
#ifndef MILLRACE_MODELS_BOXES_H_
#define MILLRACE_MODELS_BOXES_H_

namespace millrace {

struct Corners {
  double x0, y0, x1, y1;
  double area() const { return (x1 - x0) * (y1 - y0); }
};

Corners ToCorners(const float* cxcywh);

struct Overlap {
  double iou, giou;
};
Overlap BoxOverlap(const Corners& a, const Corners& b);

// Adds the gradient of iou_weight * IoU + giou_weight * GIoU to the four numbers at `da` and `db`; either may be
// nullptr. At a tie between two corners each gets half, as automatic differentiation of max and min does.
void AddOverlapGradient(const float* a, const float* b, double iou_weight, double giou_weight,
                        double* da, double* db);

}  // namespace millrace

#endif  // MILLRACE_MODELS_BOXES_H_
