// What turns tokens into answers: a logit for each pixel, or a set of boxes with classes.
//
//   at::Tensor logits = SegmentationHead(tokens, {3, 5}, {24, 40}, p);            // [B, classes, 24, 40]
//   Detections d = DetectionHead(tokens, {8, 8}, c, p);                           // logits [B, Q, C], boxes [B, Q, 4]
//
// The published detection head is one cross attention of learnt queries over the tokens. Trained from nothing it
// learns slowly; two switches make a detector that learns in minutes:
//   decoder_layers > 0  DETR's decoder instead: self attention among queries, cross attention to tokens with sine
//                       positions, MLP; pre-norm, and a box is an offset to its query's anchor
//   query_source tokens every token is a query, its anchor where it lies
// All f32.
#ifndef MILLRACE_MODELS_RAT_HEADS_H_
#define MILLRACE_MODELS_RAT_HEADS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "models/rat/blocks.h"

namespace millrace::rat {

void AddSegmentationParams(std::vector<ParamSpec>& params, const std::string& prefix, int64_t width,
                           int64_t classes);
struct SegmentationParams {
  at::Tensor weight[3], bias[3];
};
SegmentationParams ReadSegmentationParams(ParamReader& reader);

// Three linear layers with ReLU on each token, then bilinear from the tokens' grid to the image's size (half-pixel
// centres). `scales` heads share parameters.
std::vector<at::Tensor> SegmentationHeads(const std::vector<at::Tensor>& tokens,
                                          const std::vector<std::vector<int64_t>>& grids,
                                          const std::vector<std::vector<int64_t>>& sizes,
                                          const SegmentationParams& p);

struct DetectionConfig {
  int64_t width = 0, heads = 8, mlp = 0, logits = 0, queries = 0, decoder_layers = 0;
  bool token_queries = false;  // then `queries` is the number of tokens
  double class_bias = 0;       // first value of the class logits' bias; 0: as linear layers start
  bool anchors() const { return decoder_layers > 0 || token_queries; }
};
void AddDetectionParams(std::vector<ParamSpec>& params, const std::string& prefix,
                        const DetectionConfig& c);

struct CrossAttentionParams {
  at::Tensor in_weight, in_bias, out_weight, out_bias;
};
struct DecoderLayerParams {
  at::Tensor norm_weight[3], norm_bias[3];
  CrossAttentionParams self, cross;
  MlpParams mlp;
};
struct DetectionParams {
  at::Tensor query_embed, anchor_centers, anchor_sizes;
  CrossAttentionParams cross;  // the published head's
  std::vector<DecoderLayerParams> layers;
  at::Tensor norm_weight, norm_bias;
  at::Tensor class_weight, class_bias, box_weight, box_bias;
};
DetectionParams ReadDetectionParams(ParamReader& reader, const DetectionConfig& c);

struct Detections {
  at::Tensor class_logits, boxes;
};
Detections DetectionHead(const at::Tensor& tokens, const std::vector<int64_t>& grid,
                         const DetectionConfig& c, const DetectionParams& p,
                         const Dropout& dropout);

}  // namespace millrace::rat

#endif  // MILLRACE_MODELS_RAT_HEADS_H_
