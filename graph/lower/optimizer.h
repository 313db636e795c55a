// Ends the step: the gradients' global norm is clipped, then every bucket is updated, in the order in which
// their gradients appear. With AdamW and clipping, two buckets:
//
//   grad_norm/bucket_0(grad/bucket_0) -> norm/bucket_0
//   grad_norm/bucket_1(grad/bucket_1) -> norm/bucket_1
//   norm_sum(norm/bucket_0, norm/bucket_1) -> norm
//   clip_coefficient(norm) -> clip
//   adamw/bucket_0(param/bucket_0, grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0, clip)
//       -> param/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0'
//   adamw/bucket_1(...)
//
// Without clipping: the adamw lines alone, without their last input. Adam has the same states, SGD one
// ("momentum/bucket_0") or none. An evaluation step gets nothing.
//
// Parameters of 16 bits are rounded copies of an f32 master, which is one more state; the update writes both:
//
//   adamw/bucket_0(master/bucket_0, grad/bucket_0, exp_avg/bucket_0, exp_avg_sq/bucket_0, clip)
//       -> master/bucket_0', exp_avg/bucket_0', exp_avg_sq/bucket_0', param/bucket_0'
//
// With a loss scale, which the last stage's backward read, the coefficient also brings the gradients back and says
// whether the step is skipped (the norm is not finite); the scale then moves on:
//
//   clip_coefficient(norm, loss_scale) -> clip
//   adamw/bucket_0(...)
//   update_loss_scale(clip, loss_scale) -> loss_scale'
#ifndef MILLRACE_GRAPH_LOWER_OPTIMIZER_H_
#define MILLRACE_GRAPH_LOWER_OPTIMIZER_H_

#include <memory>

#include "graph/lower/pass.h"

namespace millrace {

std::unique_ptr<Pass> OptimizerStep();

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_OPTIMIZER_H_
