// COCO's two ways to write a region of an image: run-length code (RLE), whose runs go down the
// columns and alternate between outside and inside, and polygons.
//
//   ASSIGN_OR_RETURN(Rle rle, RleFromString("...", height, width));   // as pycocotools writes it
//   const std::vector<uint8_t> mask = MaskOf(rle);                    // rows, 0 or 1
#ifndef MILLRACE_DATA_IMAGE_COCO_MASK_H_
#define MILLRACE_DATA_IMAGE_COCO_MASK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace millrace {

struct Rle {
  int height = 0, width = 0;
  std::vector<int64_t> counts;  // outside, inside, outside, ...; their sum is height * width
};

// Corner, width, height, as in COCO's "bbox".
struct PixelBox {
  double x = 0, y = 0, width = 0, height = 0;
  bool operator==(const PixelBox& o) const {
    return x == o.x && y == o.y && width == o.width && height == o.height;
  }
};

// kInvalidArgument where the runs do not make up the image.
absl::StatusOr<Rle> RleFromCounts(std::vector<int64_t> counts, int height, int width);
// The compressed form: each run as the difference to the run two before it (from the fourth on), five
// bits a character.
absl::StatusOr<Rle> RleFromString(absl::string_view text, int height, int width);
std::string RleToString(const Rle& rle);

// `mask` in rows, anything but 0 is inside.
Rle RleOf(absl::Span<const uint8_t> mask, int height, int width);
std::vector<uint8_t> MaskOf(const Rle& rle);
int64_t AreaOf(const Rle& rle);
// All zeros when nothing is inside.
PixelBox BoxOf(const Rle& rle);

// Pixels [first, last) of row y.
struct PixelRun {
  int y, first, last;
};
// The pixels of an image whose centres are inside a polygon by the even-odd rule. A polygon is x0,
// y0, x1, y1, ... in pixels; (0, 0) is the outer corner of the first one.
std::vector<PixelRun> RunsOf(absl::Span<const double> polygon, int height, int width);

// The union of several polygons (the parts of one object), in rows.
std::vector<uint8_t> FillPolygons(const std::vector<std::vector<double>>& polygons, int height,
                                  int width);

}  // namespace millrace

#endif  // MILLRACE_DATA_IMAGE_COCO_MASK_H_
