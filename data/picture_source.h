// Pictures with masks or boxes as samples: decodes the files, draws the sample's random change, and
// fills whatever tensors the model's batch has, all from one decoded picture.
//
//   images, images.1, ...   f32 [3 or 1, H, W]   stretched to H x W, in [0, 1] or normalised
//   masks, masks.1, ...     u8 [H, W]            0 background, 1 inside; sets with masks
//   boxes f32 [M, 4], classes i64 [M]            cx, cy, w, h as shares; class -1: no object
//   spacing                 f32 [scales, 2]      height and width of a pixel of each scale
//   keys                    i64 []
//
// Spacing: where the set says how large its pixels are, the size of an output pixel in that unit; else
// relative to the first scale: (1, 1) for a picture of the output's shape, (0.87, 1.15) for one of
// 450 x 600 stretched to a square, twice that for a second scale of half the size.
//
//   ASSIGN_OR_RETURN(auto source, MakePictureSource(set, fields, options));
#ifndef MILLRACE_DATA_PICTURE_SOURCE_H_
#define MILLRACE_DATA_PICTURE_SOURCE_H_

#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "data/image/joint_augment.h"
#include "data/picture_set.h"
#include "data/sample_source.h"

namespace millrace {

struct PictureSourceOptions {
  JointAugmentOptions augment;
  // Classes count the set's categories from 0 in the order of their ids; else they are the ids.
  bool contiguous_classes = false;
  // Classes must be below; 0: not known.
  int64_t classes = 0;
};

class PictureSource : public SampleSource {
 public:
  const PictureSet& set() const { return set_; }
  const PictureSourceOptions& options() const { return options_; }
  // The class that a category of the set has in "classes".
  int64_t ClassOf(int64_t category) const;
  // The mask of sample `index` in its stored size, 0 or 1: for metrics at the original resolution.
  absl::StatusOr<ByteImage> Mask(int64_t index) const;

 protected:
  PictureSource(PictureSet set, const PictureSourceOptions& options)
      : set_(std::move(set)), options_(options) {}
  const PictureSet set_;
  const PictureSourceOptions options_;
};

// All mistakes at once: fields that the set cannot fill or of a wrong type or shape, classes that the
// model does not have, options.
absl::StatusOr<std::shared_ptr<const PictureSource>> MakePictureSource(
    PictureSet set, const std::vector<FieldSpec>& fields, const PictureSourceOptions& options);

}  // namespace millrace

#endif  // MILLRACE_DATA_PICTURE_SOURCE_H_
