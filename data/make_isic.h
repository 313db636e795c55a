// Writes a small data set in the folder layout of ISIC 2018 (task 1, lesion boundaries), so that
// segmentation has something to learn from where the real archive (13 GB) is not at hand:
//
//   images/ISIC_0000000.jpg ...                textured skin, an irregular lesion, sometimes hair
//   masks/ISIC_0000000_segmentation.png ...    255 where the lesion is
//   splits.json                                {"train": [ids], "val": [ids], "test": [ids]}
//
// Sizes and shapes of the pictures vary, most are not square.
//
//   MakeIsicOptions options;
//   options.directory = "isic";
//   RETURN_IF_ERROR(MakeIsic(options));
#ifndef MILLRACE_DATA_MAKE_ISIC_H_
#define MILLRACE_DATA_MAKE_ISIC_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "data/image/byte_image.h"

namespace millrace {

struct MakeIsicOptions {
  std::string directory;  // made when missing
  int64_t train_images = 400;
  int64_t val_images = 100;
  int64_t test_images = 100;
  // The longer side of a picture is drawn evenly from [min_side, max_side], the other is 0.6 to 1
  // times as long.
  int64_t min_side = 160;
  int64_t max_side = 320;
  uint64_t seed = 0;
};

// splits.json is removed first and written last: without it the folder is no data set. The same
// options give the same bytes; picture i of a seed does not depend on how many there are.
absl::Status MakeIsic(const MakeIsicOptions& options);

// One picture and its mask, as MakeIsic draws picture `index`.
struct SkinImage {
  ByteImage image;  // 3 channels
  ByteImage mask;   // 1 channel, 0 or 255
};
SkinImage DrawSkin(uint64_t seed, int64_t index, int64_t min_side, int64_t max_side);

}  // namespace millrace

#endif  // MILLRACE_DATA_MAKE_ISIC_H_
