// Random changes of a picture with its mask and boxes: all geometry as one map (data/image/resample.h),
// all colour as one matrix.
//
//   const PictureMap map = DrawGeometry(options, stored, 256, 256, &rng);      // null rng: no chance
//   const ColourJitter jitter = DrawColour(options, &rng);
//   colour = ColourOf(options, jitter, MeanGrey(...));
//
// Order as seen from the picture: rotate, scale and shift about its centre, cut a window, mirror,
// stretch to the output. The draws are a function of the sample's generator alone.
#ifndef MILLRACE_DATA_IMAGE_JOINT_AUGMENT_H_
#define MILLRACE_DATA_IMAGE_JOINT_AUGMENT_H_

#include <vector>

#include "data/image/resample.h"
#include "graph/base/findings.h"
#include "graph/base/random.h"

namespace millrace {

struct JointAugmentOptions {
  double horizontal_flip = 0, vertical_flip = 0;  // probabilities
  double rotation_degrees = 0;                    // evenly from +- this
  double scale_min = 1, scale_max = 1;            // evenly; above 1 enlarges
  double shift_pixels = 0;  // evenly from +- this many output pixels, each axis
  // A window of at least this share of the picture's area, of the picture's own shape times a factor
  // between 1 / crop_aspect and crop_aspect, anywhere within it. 1: no window.
  double crop_area_min = 1;
  double crop_aspect = 1;
  // Factors evenly from 1 - b .. 1 + b: of all values; of the distance to the mean grey; of the
  // distance to each pixel's own grey.
  double brightness = 0, contrast = 0, saturation = 0;
  // Boxes of which less than this share is left in the output are dropped.
  double box_visible_min = 0.25;
  // (value - mean) / std of values in [0, 1], one number for all channels or one each; empty: leave.
  std::vector<float> mean, std;
};

// All mistakes of the options, for a picture of `channels`.
void CheckJointAugment(const JointAugmentOptions& options, int channels, Findings* findings);

PictureMap DrawGeometry(const JointAugmentOptions& options, const StoredSize& stored, int height,
                        int width, const CounterRng* rng);

struct ColourJitter {
  double brightness = 1, contrast = 1, saturation = 1;
};
ColourJitter DrawColour(const JointAugmentOptions& options, const CounterRng* rng);
// With normalisation; `mean_grey` is that of the picture before, used by the contrast only.
Colour ColourOf(const JointAugmentOptions& options, const ColourJitter& jitter, double mean_grey);

}  // namespace millrace

#endif  // MILLRACE_DATA_IMAGE_JOINT_AUGMENT_H_
