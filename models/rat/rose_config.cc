#include <cmath>

#include "models/rat/rose.h"

namespace millrace::rat {

int64_t RoseConfig::rotated_heads() const {
  // Through the width, as published: ratios that are no multiple of a head round down to one.
  const int64_t width = heads * head_width;
  return static_cast<int64_t>(static_cast<double>(width) * ratio) / head_width;
}

double RoseConfig::log_theta() const {
  const double s = static_cast<double>(axes), width = static_cast<double>(heads * head_width);
  double exponent = 1;
  if (frequency_scaling == "linear") exponent = 1 / s;
  if (frequency_scaling == "sqrt") exponent = 1 / std::sqrt(s);
  if (frequency_scaling == "adaptive") exponent = 2 / (s * width);
  return exponent * std::log(theta);
}

std::vector<float> RoseFrequencies(const RoseConfig& c) {
  const int64_t n = c.rotated_heads() * c.planes();
  std::vector<float> freqs;
  for (int64_t j = 0; j < n; ++j) {
    const double f = std::exp(-c.log_theta() * static_cast<double>(j) / static_cast<double>(n));
    freqs.insert(freqs.end(), static_cast<size_t>(c.axes), static_cast<float>(f));
  }
  return freqs;
}

}  // namespace millrace::rat
