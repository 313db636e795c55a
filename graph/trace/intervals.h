// Sets of moments: what several spans cover together. Nanoseconds or seconds.
//
//   Intervals<int64_t> busy = Union<int64_t>({{0, 4}, {3, 9}});     // {{0, 9}}
#ifndef MILLRACE_GRAPH_TRACE_INTERVALS_H_
#define MILLRACE_GRAPH_TRACE_INTERVALS_H_

#include <algorithm>
#include <utility>
#include <vector>

namespace millrace {

template <typename T>
using Intervals = std::vector<std::pair<T, T>>;  // [first, second)

// Sorted, without overlaps, without empty ones.
template <typename T>
Intervals<T> Union(Intervals<T> intervals) {
  std::sort(intervals.begin(), intervals.end());
  Intervals<T> out;
  for (const auto& [begin, end] : intervals) {
    if (end <= begin) continue;
    if (!out.empty() && begin <= out.back().second) {
      out.back().second = std::max(out.back().second, end);
    } else {
      out.push_back({begin, end});
    }
  }
  return out;
}

}  // namespace millrace

#endif  // MILLRACE_GRAPH_TRACE_INTERVALS_H_
