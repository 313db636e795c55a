// Rotary spatial embeddings (RoSE): the place of a token, in physical units, as rotations of its query or key.
//
// A token's position on each axis is its index times the spacing of its grid, so tokens of images of different
// resolution meet in one coordinate system. Plane p of head h is turned by the angle
//
//   sum over axes of  index[a] * spacing'[a] * frequency[h, p, a]
//
// where a plane is a pair of neighbouring channels and spacing' is the spacing itself or a learnt function of it. Only
// the first heads turn (`ratio` of the width). Angles come from tables per axis, in double; the products are f32.
//
//   RoseConfig rose{.heads = 4, .head_width = 8, .axes = 2};
//   at::Tensor k = Rotate(x, rose, {{0, {12, 15}, 0, {1, 1}}}, spacing, {freqs}, temp);      // [B, 180, 32]
//
// Backward keeps the rotated tensor, which attention keeps anyway; with a temperature it keeps x.
#ifndef MILLRACE_MODELS_RAT_ROSE_H_
#define MILLRACE_MODELS_RAT_ROSE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "graph/ir/model_spec.h"

namespace millrace::rat {

// Where spacing' = A s^B + C ln(s / max(D, 1e-8)) starts: A, B, C, D.
enum class SpacingStart {
  kIdentity,  // 1, 1, 0, 1: the spacing itself
  kLog,       // 0, 1, 1, 1: ln s - nothing turns at spacing 1
  kRope,      // 0, 0, 0, 1: nothing turns until A or C has moved
};

// By SpacingStart.
inline constexpr double kSpacingStart[3][4] = {{1, 1, 0, 1}, {0, 1, 1, 1}, {0, 0, 0, 1}};

struct RoseConfig {
  int64_t heads = 1, head_width = 2, axes = 2;
  double ratio = 0.5, theta = 1e4;
  std::string frequency_scaling = "sqrt";  // none, linear, sqrt, adaptive
  bool learnable = true;                   // frequencies
  bool learnable_spacing = false;
  SpacingStart start = SpacingStart::kIdentity;
  double jitter =
      0.02;  // standard deviation of the logarithm of learnable frequencies at the start

  int64_t rotated_heads() const;
  int64_t planes() const { return head_width / 2; }  // of a head
  double log_theta() const;  // ln of the ratio of the highest to the lowest frequency
};

// [rotated heads, planes, axes], without jitter.
std::vector<float> RoseFrequencies(const RoseConfig& c);

// "PREFIXfreqs", "PREFIXscale_a" ... as far as they are learnt.
void AddRoseParams(std::vector<ParamSpec>& params, const std::string& prefix, const RoseConfig& c);

// Undefined where not learnt.
struct RoseParams {
  at::Tensor freqs, scale[4];
};

class ParamReader;  // blocks.h
RoseParams ReadRoseParams(ParamReader& reader, const RoseConfig& c);

// Tokens [begin, begin + product of grid) lie on a grid, row-major. Their spacing is spacing[b, scale, :] * factor.
struct RoseSegment {
  int64_t begin = 0;
  std::vector<int64_t> grid;
  int64_t scale = 0;
  std::vector<double> factor;
};

// x [B, N, heads * head_width], f32 (off the host: of any type); tokens outside all segments keep their place. spacing [B or 1, scales, axes], f32,
// not differentiated; undefined means 1. temp [1] multiplies all of the result; undefined means 1.
at::Tensor Rotate(const at::Tensor& x, const RoseConfig& c,
                  const std::vector<RoseSegment>& segments, const at::Tensor& spacing,
                  const RoseParams& params, const at::Tensor& temp);

}  // namespace millrace::rat

#endif  // MILLRACE_MODELS_RAT_ROSE_H_
