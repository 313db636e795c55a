// Writes a small data set in COCO 2017's layout, so that detection has something to learn from where
// the real one (19 GB) is not at hand:
//
//   train2017/000000000001.jpg ...         scenes of overlapping shapes on textured ground
//   val2017/...
//   annotations/instances_train2017.json   boxes, areas, polygons; RLE for the crowds
//   annotations/instances_val2017.json
//
// Ten classes, ids 1..10: circle, square, triangle, star, hexagon, cross, ellipse, arrow, half_disc,
// diamond; each has a hue of its own (with some spread). Some pictures show no object at all, some a
// crowd: many small shapes of one class under a single annotation with iscrowd 1.
//
//   MakeCocoOptions options;
//   options.directory = "coco";
//   RETURN_IF_ERROR(MakeCoco(options));
#ifndef MILLRACE_DATA_MAKE_COCO_H_
#define MILLRACE_DATA_MAKE_COCO_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "data/image/byte_image.h"
#include "data/image/coco_mask.h"

namespace millrace {

struct MakeCocoOptions {
  std::string directory;  // made when missing
  int64_t train_images = 800;
  int64_t val_images = 200;
  // Classes 1 .. classes occur. 1..10.
  int64_t classes = 10;
  // Objects of a picture: evenly 1 .. max_objects (none in every 16th picture or so).
  int64_t max_objects = 6;
  // The longer side of a picture is drawn evenly from [min_side, max_side], the other is 0.6 to 1
  // times as long.
  int64_t min_side = 128;
  int64_t max_side = 256;
  uint64_t seed = 0;
};

// The annotations are removed first and written last. The same options give the same bytes.
absl::Status MakeCoco(const MakeCocoOptions& options);

struct SceneObject {
  int category = 0;
  std::vector<double> polygon;  // of a single object, clipped to the picture
  Rle crowd;                    // of a crowd: no polygon
  PixelBox box;
  double area = 0;
};
struct Scene {
  ByteImage image;  // 3 channels
  std::vector<SceneObject> objects;
};
// Picture `index` of a part ("train" or "val") as MakeCoco draws it.
Scene DrawScene(const MakeCocoOptions& options, const std::string& part, int64_t index);

}  // namespace millrace

#endif  // MILLRACE_DATA_MAKE_COCO_H_
