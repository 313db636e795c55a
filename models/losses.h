// The losses of segmentation and detection. Each is one step of automatic differentiation with its gradient in closed
// form: f32 in, a scalar f32 out, shapes that depend on no data, and the same allocations on the meta device, where
// nothing is computed, as on the CPU.
//
//   at::Tensor loss = BceDiceLoss(logits, masks);
//   SetLoss set = DetectionSetLoss(class_logits, boxes, classes, target_boxes, {});
//   set.total; set.classification; ...                           // set.match says who answers for what
//
// Sums are taken in double and in one order, so equal input gives equal bits. On CUDA the loss of masks is composed of
// LibTorch's operators; the loss of boxes, whose matching needs the costs on the host, is not there. They throw c10::Error as LibTorch does.
#ifndef MILLRACE_MODELS_LOSSES_H_
#define MILLRACE_MODELS_LOSSES_H_

#include <ATen/core/Tensor.h>

#include "models/matching.h"

namespace millrace {

// How much binary cross-entropy (mean over all elements) and Dice count in the loss of a mask.
struct MaskWeights {
  double bce = 0.5, dice = 0.5;
};

// logits [B, classes, H, W], masks u8 [B, H, W]. With one class, whatever is not background (0) is the object; with
// more, channel c is held against class c + 1. Dice = 1 - (2 sum(p t) + 1e-6) / (sum p + sum t + 1e-6) of each image,
// all its channels together, then the mean.
at::Tensor MaskLoss(const at::Tensor& logits, const at::Tensor& masks, const MaskWeights& weights);
inline at::Tensor BceDiceLoss(const at::Tensor& logits, const at::Tensor& masks) {
  return MaskLoss(logits, masks, {});
}

struct SetLossOptions {
  SetWeights weights;  // of the loss's parts in the total
  MatchOptions
      match;  // costs by which objects are given to queries; focal or softmax, for the loss too
  double no_object = 0.1;  // softmax: weight of the last class in the cross-entropy
};

// All scalars but `match`, i64 [B, Q]: the index of each query's object, -1 for none.
struct SetLoss {
  at::Tensor total, classification, l1, giou, match;
};

// class_logits [B, Q, C] (softmax: C + 1, the last being "no object"), boxes [B, Q, 4] as cx, cy, w, h;
// target_classes i64 [B, M], -1 for padding; target_boxes [B, M, 4].
//   classification: focal - sum over queries and classes / number of objects;
//                   softmax - cross-entropy, the mean weighted by class
//   l1, giou: sums over matches of |b - t| and of 1 - GIoU, / number of objects
// The number of objects is that of the batch, at least 1.
SetLoss DetectionSetLoss(const at::Tensor& class_logits, const at::Tensor& boxes,
                         const at::Tensor& target_classes, const at::Tensor& target_boxes,
                         const SetLossOptions& options);

}  // namespace millrace

#endif  // MILLRACE_MODELS_LOSSES_H_
