// Reader of ISIC 2018's layout for lesion boundaries:
//
//   FOLDER/images/ID.jpg (.jpeg, .png)
//   FOLDER/masks/ID_segmentation.png
//   FOLDER/splits.json      {"train": ["ISIC_0000000", ...], "val": [...], "test": [...],
//                            "spacing": {"ISIC_0000000": 0.05, "ISIC_0000001": [0.05, 0.06], ...}}
//
// "spacing" is optional: the size of a pixel, or its height and width; given for one picture of a
// part, it must be given for all of it.
#ifndef MILLRACE_DATA_ISIC_H_
#define MILLRACE_DATA_ISIC_H_

#include <string>

#include "absl/status/statusor.h"
#include "data/picture_set.h"

namespace millrace {

struct IsicOptions {
  std::string folder;
  std::string splits;  // "": FOLDER/splits.json
  std::string split = "train";
  // false: a missing file is found when the sample is read (data.on_error SKIP).
  bool missing_is_error = true;
};

// All mistakes at once (the first twenty by name): unknown part, an id twice or in two parts, missing
// pictures and masks.
absl::StatusOr<PictureSet> ReadIsic(const IsicOptions& options);

}  // namespace millrace

#endif  // MILLRACE_DATA_ISIC_H_
