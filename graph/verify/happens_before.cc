#include "graph/verify/happens_before.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"

namespace millrace {

std::vector<int32_t> FindCycle(const std::vector<int32_t>& first,
                               const std::vector<int32_t>& targets) {
  const int n = static_cast<int>(first.size()) - 1;
  enum : uint8_t { kNew, kOpen, kClosed };
  std::vector<uint8_t> state(n, kNew);
  std::vector<int32_t> next(first.begin(), first.end() - 1);
  std::vector<int32_t> path;  // the open nodes, each a predecessor of the next
  for (int root = 0; root < n; ++root) {
    if (state[root] != kNew) continue;
    path.push_back(root);
    state[root] = kOpen;
    while (!path.empty()) {
      const int at = path.back();
      if (next[at] == first[at + 1]) {
        state[at] = kClosed;
        path.pop_back();
        continue;
      }
      const int to = targets[next[at]++];
      if (state[to] == kOpen) {
        return {std::find(path.begin(), path.end(), to), path.end()};
      }
      if (state[to] == kNew) {
        state[to] = kOpen;
        path.push_back(to);
      }
    }
  }
  return {};
}

HappensBefore::HappensBefore(int num_nodes, const std::vector<Lane>& lanes,
                             const std::vector<Edge>& edges)
    : chain_(num_nodes, -1), position_(num_nodes, 0), place_(num_nodes, -1) {
  std::vector<int32_t> first(num_nodes + 1, 0), targets(edges.size());
  for (const Edge& e : edges) ++first[e.from + 1];
  for (int i = 0; i < num_nodes; ++i) first[i + 1] += first[i];
  {
    std::vector<int32_t> fill(first.begin(), first.end() - 1);
    for (const Edge& e : edges) targets[fill[e.from]++] = e.to;
  }

  // Kahn, smallest position in the list of arrivals first: stable for equal input.
  std::vector<int32_t> missing(num_nodes, 0);
  for (const Edge& e : edges) ++missing[e.to];
  order_.reserve(num_nodes);
  for (int n = 0; n < num_nodes; ++n) {
    if (missing[n] == 0) order_.push_back(n);
  }
  for (size_t i = 0; i < order_.size(); ++i) {
    const NodeId n = order_[i];
    place_[n] = static_cast<int32_t>(i);
    for (int k = first[n]; k < first[n + 1]; ++k) {
      if (--missing[targets[k]] == 0) order_.push_back(targets[k]);
    }
  }
  if (static_cast<int>(order_.size()) != num_nodes) {
    cycle_ = FindCycle(first, targets);
    return;
  }

  for (const Lane& lane : lanes) {
    NodeId last = -1;
    for (NodeId n : lane.order) {
      if (chain_[n] >= 0) continue;  // listed twice: its first place counts
      const bool joined =
          last >= 0 && std::find(targets.begin() + first[last], targets.begin() + first[last + 1],
                                 n) != targets.begin() + first[last + 1];
      chain_[n] = joined ? chain_[last] : chains_++;
      position_[n] = joined ? position_[last] + 1 : 0;
      last = n;
    }
  }
  for (int n = 0; n < num_nodes; ++n) {
    if (chain_[n] < 0) chain_[n] = chains_++;  // in no lane
  }

  clock_.assign(int64_t{num_nodes} * chains_, -1);
  for (NodeId n : order_) {
    int32_t* own = clock_.data() + int64_t{n} * chains_;
    own[chain_[n]] = position_[n];
    for (int k = first[n]; k < first[n + 1]; ++k) {
      int32_t* to = clock_.data() + int64_t{targets[k]} * chains_;
      for (int c = 0; c < chains_; ++c) to[c] = std::max(to[c], own[c]);
    }
  }
}

}  // namespace millrace
