// What detections are held against: the objects of an evaluation sample in pixels of the image as it was read, before
// any resizing, with crowds, which training does not see. Beside the batches, whose boxes are shares of the image.
//
//   ASSIGN_OR_RETURN(ImageTruth truth, ground_truth->Of(sample));
//   for (const GroundTruthObject& o : truth.objects) meter.AddObject(o);
//
// Called from one thread.
#ifndef MILLRACE_DATA_METRICS_GROUND_TRUTH_H_
#define MILLRACE_DATA_METRICS_GROUND_TRUTH_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "data/metrics/detection.h"

namespace millrace {

struct ImageTruth {
  int64_t height = 0, width = 0;
  std::vector<GroundTruthObject> objects;  // their `image` is the sample's index
};

class GroundTruth {
 public:
  virtual ~GroundTruth() = default;
  virtual int64_t categories() const = 0;
  // `sample`: an index into the evaluation data.
  virtual absl::StatusOr<ImageTruth> Of(int64_t sample) const = 0;
};

}  // namespace millrace

#endif  // MILLRACE_DATA_METRICS_GROUND_TRUTH_H_
