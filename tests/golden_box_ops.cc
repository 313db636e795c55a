// Kind box_ops: corners, areas, IoU and GIoU of every pair of two lists of boxes, and their gradients.
#include <string>
#include <vector>

#include "graph/base/status.h"
#include "models/boxes.h"
#include "tests/golden_case.h"

namespace millrace {
namespace {

std::vector<float> Narrow(const std::vector<double>& v) { return {v.begin(), v.end()}; }

absl::StatusOr<GoldenOutputs> BoxOps(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const int64_t n = args.Get("n", int64_t{0}), m = args.Get("m", int64_t{0});
  RETURN_IF_ERROR(args.AllWereRead());
  ASSIGN_OR_RETURN(const auto a, c.Input("input.boxes1_cxcywh"));
  ASSIGN_OR_RETURN(const auto b, c.Input("input.boxes2_cxcywh"));
  ASSIGN_OR_RETURN(const auto probe_iou, c.Input("probe.iou"));
  ASSIGN_OR_RETURN(const auto probe_giou, c.Input("probe.giou"));

  std::vector<double> corners, areas, iou, giou;
  std::vector<double> da(a.size()), db(b.size());
  for (int64_t i = 0; i < n; ++i) {
    const Corners box = ToCorners(a.data() + 4 * i);
    corners.insert(corners.end(), {box.x0, box.y0, box.x1, box.y1});
    areas.push_back(box.area());
    for (int64_t j = 0; j < m; ++j) {
      const size_t pair = static_cast<size_t>(i * m + j);
      const Overlap o = BoxOverlap(box, ToCorners(b.data() + 4 * j));
      iou.push_back(o.iou);
      giou.push_back(o.giou);
      AddOverlapGradient(a.data() + 4 * i, b.data() + 4 * j, probe_iou[pair], probe_giou[pair],
                         &da[static_cast<size_t>(4 * i)], &db[static_cast<size_t>(4 * j)]);
    }
  }
  GoldenOutputs outputs;
  outputs.Put("output.xyxy1", {n, 4}, Narrow(corners).data());
  outputs.Put("output.area1", {n}, Narrow(areas).data());
  outputs.Put("output.iou", {n, m}, Narrow(iou).data());
  outputs.Put("output.giou", {n, m}, Narrow(giou).data());
  outputs.Put("grad_input.boxes1_cxcywh", {n, 4}, Narrow(da).data());
  outputs.Put("grad_input.boxes2_cxcywh", {m, 4}, Narrow(db).data());
  return outputs;
}

REGISTER_GOLDEN_KIND(box_ops, BoxOps);

}  // namespace
}  // namespace millrace
