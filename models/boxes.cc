#include "models/boxes.h"

#include <algorithm>

namespace millrace {
namespace {

// One axis of two boxes: [a0, a1] and [b0, b1].
struct Axis {
  double a0, a1, b0, b1;
  double inner() const { return std::min(a1, b1) - std::max(a0, b0); }  // negative where apart
  double outer() const { return std::max(a1, b1) - std::min(a0, b0); }
};

// Share of the gradient of max(x, y) that goes to x; of min(x, y) it is the rest.
double ShareOfMax(double x, double y) { return x > y ? 1 : x < y ? 0 : 0.5; }

struct Pair {
  Axis x, y;
  double width, height, inner, joined, outer;  // inner: the intersection; joined: the union

  Pair(const Corners& a, const Corners& b)
      : x{a.x0, a.x1, b.x0, b.x1},
        y{a.y0, a.y1, b.y0, b.y1},
        width(std::max(x.inner(), 0.0)),
        height(std::max(y.inner(), 0.0)),
        inner(width * height),
        joined(a.area() + b.area() - inner),
        outer(x.outer() * y.outer()) {}
};

// d(center, size) from d(low, high).
void AddCentred(double low, double high, double* center, double* size) {
  *center += low + high;
  *size += (high - low) / 2;
}

}  // namespace

Corners ToCorners(const float* b) {
  const double cx = b[0], cy = b[1], w = b[2], h = b[3];
  return {cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2};
}

Overlap BoxOverlap(const Corners& a, const Corners& b) {
  const Pair p(a, b);
  const double iou = p.joined > 0 ? p.inner / p.joined : 0;
  const double empty = p.outer > 0 ? (p.outer - p.joined) / p.outer : 0;
  return {iou, iou - empty};
}

void AddOverlapGradient(const float* a, const float* b, double iou_weight, double giou_weight,
                        double* da, double* db) {
  const Corners ca = ToCorners(a), cb = ToCorners(b);
  const Pair p(ca, cb);
  // IoU = inner / joined, GIoU = IoU - 1 + joined / outer, joined = area_a + area_b - inner.
  double d_inner = 0, d_joined = 0, d_outer = 0;
  if (p.joined > 0) {
    d_inner += (iou_weight + giou_weight) / p.joined;
    d_joined -= (iou_weight + giou_weight) * p.inner / (p.joined * p.joined);
  }
  if (p.outer > 0) {
    d_joined += giou_weight / p.outer;
    d_outer -= giou_weight * p.joined / (p.outer * p.outer);
  }
  d_inner -= d_joined;

  const auto one_box = [&](const Corners& c, bool first, double* d) {
    const auto axis = [&](const Axis& t, double other_inner, double other_outer, double other_side,
                          double* center, double* size) {
      const double low = first ? t.a0 : t.b0, low2 = first ? t.b0 : t.a0;
      const double high = first ? t.a1 : t.b1, high2 = first ? t.b1 : t.a1;
      const double met = t.inner() >= 0 ? d_inner * other_inner : 0;
      const double around = d_outer * other_outer;
      const double own = d_joined * other_side;
      const double d_high = met * (1 - ShareOfMax(high, high2)) + around * ShareOfMax(high, high2);
      const double d_low = -met * ShareOfMax(low, low2) - around * (1 - ShareOfMax(low, low2));
      AddCentred(d_low - own, d_high + own, center, size);
    };
    axis(p.x, p.height, p.y.outer(), c.y1 - c.y0, &d[0], &d[2]);
    axis(p.y, p.width, p.x.outer(), c.x1 - c.x0, &d[1], &d[3]);
  };
  if (da != nullptr) one_box(ca, true, da);
  if (db != nullptr) one_box(cb, false, db);
}

}  // namespace millrace
