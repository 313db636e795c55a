// Parts of the transformer composed of LibTorch's operators and differentiated by autograd, for tensors that are not on
// the host (models/generic.h). Each has a tuned twin for the CPU, which calls it and is held against it by the tests.
//
//   at::Tensor y = generic::Rotate(x, config, segments, spacing, params, temp);
//
// They make what they need on the device itself: nothing is copied from the host, so nothing waits.
#ifndef MILLRACE_MODELS_RAT_GENERIC_PARTS_H_
#define MILLRACE_MODELS_RAT_GENERIC_PARTS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "models/rat/blocks.h"
#include "models/rat/rose.h"

namespace millrace::rat::generic {

// rat::Rotate. Frequencies that are not learnt are brought to the device at first use and stay there, so a run
// outside of a plan must come first (models/probe.h makes one).
at::Tensor Rotate(const at::Tensor& x, const RoseConfig& c,
                  const std::vector<RoseSegment>& segments, const at::Tensor& spacing,
                  const RoseParams& params, const at::Tensor& temp);

// rat::DropInPlace, the same elements. Random numbers are made in 64-bit integers, some 100 operators each time.
void DropInPlace(const at::Tensor& x, const Dropout& dropout, uint64_t place);

// Bilinear from tokens [B, N, C] on a grid to f32 [B, C, H, W], half-pixel centres: as two products, whose backward has
// one order of summation.
at::Tensor Upsample(const at::Tensor& tokens, const std::vector<int64_t>& grid,
                    const std::vector<int64_t>& size);

// Sines and cosines of physical positions, [B, N, D] like x; spacing [B, 2].
at::Tensor AbsolutePositions(const at::Tensor& x, const std::vector<int64_t>& grid,
                             const at::Tensor& spacing);

}  // namespace millrace::rat::generic

#endif  // MILLRACE_MODELS_RAT_GENERIC_PARTS_H_
