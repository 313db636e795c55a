// The middle of a list; of an even number of values the upper of the two in the middle; of none 0.
//
//   double typical = Median(step_seconds);
#ifndef MILLRACE_GRAPH_BASE_MEDIAN_H_
#define MILLRACE_GRAPH_BASE_MEDIAN_H_

#include <algorithm>
#include <cstddef>
#include <vector>

namespace millrace {

template <typename T>
T Median(std::vector<T> values) {
  if (values.empty()) return T{};
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace millrace

#endif  // MILLRACE_GRAPH_BASE_MEDIAN_H_
