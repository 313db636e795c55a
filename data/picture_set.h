// What the readers of segmentation and detection data sets give: where the files of each sample lie
// and what is known about them, before any picture is decoded. data/picture_source.h makes samples of
// it.
//
//   ASSIGN_OR_RETURN(PictureSet train, ReadIsic({.folder = "isic", .split = "train"}));
#ifndef MILLRACE_DATA_PICTURE_SET_H_
#define MILLRACE_DATA_PICTURE_SET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "data/image/coco_mask.h"
#include "graph/base/findings.h"

namespace millrace {

struct PictureObject {
  int64_t annotation = 0;  // its id in the file
  int64_t category = 0;
  PixelBox box;     // in pixels of the stored picture
  double area = 0;  // of the region, not of the box
  bool crowd = false;
};

struct Picture {
  std::string image;           // file
  std::string mask;            // file; "" where the set has boxes
  int64_t id = 0;              // COCO's image id
  int height = 0, width = 0;   // as annotated; 0: not said
  double spacing[2] = {1, 1};  // height and width of a stored pixel
  std::vector<PictureObject> objects;
};

struct PictureCategory {
  int64_t id = 0;
  std::string name;
};

struct PictureSet {
  std::string name;  // for messages: file and part
  bool masks = false, boxes = false;
  bool spacing = false;  // the spacing of every picture is known
  std::vector<Picture> pictures;
  std::vector<PictureCategory> categories;  // by id; boxes only
};

// Adds findings up to a number, then counts: a folder with a thousand missing files needs no thousand
// lines.
class CappedFindings {
 public:
  explicit CappedFindings(std::string check, int limit = 20) : check_(check), limit_(limit) {}
  void Add(std::string message, std::string suggestion = "", std::string file = "");
  bool ok() const { return count_ == 0; }
  // kInvalidArgument with what was added, "and N more" at the end; OK for none.
  absl::Status ToStatus() const;

 private:
  const std::string check_;
  const int limit_;
  int64_t count_ = 0;
  Findings findings_;
};

}  // namespace millrace

#endif  // MILLRACE_DATA_PICTURE_SET_H_
