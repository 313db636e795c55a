// The arguments of a resolution-aware transformer, read and checked: all mistakes at once, and no argument that would
// change nothing.
//
//   ASSIGN_OR_RETURN(RatConfig c, ParseRat(args, defaults));
//   c.grids[1][0];                            // the first scale's grid after the first block
#ifndef MILLRACE_MODELS_RAT_RAT_CONFIG_H_
#define MILLRACE_MODELS_RAT_RAT_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/losses.h"
#include "models/model.h"
#include "models/rat/grouping_attention.h"
#include "models/rat/heads.h"
#include "models/rat/multi_resolution.h"

namespace millrace::rat {

using Grid = std::vector<int64_t>;

struct RatConfig {
  Task task = Task::kSegmentation;
  int64_t channels = 3, width = 0, heads = 1, projection_kernel = 7;
  bool spacing = true;    // whether positions read the batch's spacing
  bool absolute = false;  // sine positions added to the first tokens
  double dropout = 0;
  std::vector<Grid> images;              // by scale
  std::vector<GroupingConfig> grouping;  // by block
  MultiResolutionConfig mixing;          // of every block
  std::vector<std::vector<Grid>>
      grids;  // [block][scale] before the block, and once more after the last
  std::vector<std::vector<double>> factor;  // [block][axis]: how much coarser than the image
  int64_t classes = 1;                      // segmentation: channels of the logits
  int64_t max_objects = 0;
  DetectionConfig detection;
  SetLossOptions loss;

  bool RotatesBySpacing() const { return spacing && !absolute; }
  int64_t scales() const { return static_cast<int64_t>(images.size()); }
  int64_t blocks() const { return static_cast<int64_t>(grouping.size()); }
};

// With the defaults of the model named `rat`; presets give other defaults to some.
std::vector<ModelArg> RatArguments();

// `defaults` are those of the model being built: an argument that has no effect must have its default.
absl::StatusOr<RatConfig> ParseRat(const Attrs& args, const std::vector<ModelArg>& defaults);

}  // namespace millrace::rat

#endif  // MILLRACE_MODELS_RAT_RAT_CONFIG_H_
