// Reader of COCO 2017's instances_*.json: pictures, boxes, crowds. A picture without any annotation is
// a sample, too.
//
//   ASSIGN_OR_RETURN(PictureSet val, ReadCoco({.annotations = "annotations/instances_val2017.json",
//                                              .images = "val2017"}));
//
// Category ids stay as they are in the file (COCO's go from 1 to 90 with gaps). Polygons and RLE masks
// are checked - a box without a region is a broken file - but not kept: boxes are what is trained on.
// The annotations are taken one by one while the file is parsed, so that the 450 MB of the real
// training part need not fit memory as a tree.
#ifndef MILLRACE_DATA_COCO_H_
#define MILLRACE_DATA_COCO_H_

#include <string>

#include "absl/status/statusor.h"
#include "data/picture_set.h"

namespace millrace {

struct CocoOptions {
  std::string annotations;  // file
  std::string images;       // folder
  // false: a missing file is found when the sample is read (data.on_error SKIP).
  bool missing_is_error = true;
};

// All mistakes at once (the first twenty), each with the annotation's or picture's id.
absl::StatusOr<PictureSet> ReadCoco(const CocoOptions& options);

}  // namespace millrace

#endif  // MILLRACE_DATA_COCO_H_
