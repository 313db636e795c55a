// What differs between two plans, in the order in which people ask: settings, memory and what fills it, communication,
// simulated time, nodes. Nodes are grouped by name, so that a line stands for a kind of change, however many there are:
//
//   + 4  all_gather/bucket_*/backward/*.start      only in B
//   > 2  all_gather/bucket_*/update                from lane compute to lane comm:data
//   ~ 1  grad_norm/bucket_*                        at another place in lane compute
//
//   PlanDiff diff = Diff(a, b);
//   std::cerr << ToText(diff);   ToJson(diff).dump();   diff.same()
#ifndef MILLRACE_TOOLS_ANALYZE_PLAN_DIFF_H_
#define MILLRACE_TOOLS_ANALYZE_PLAN_DIFF_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tools/analyze/plan_facts.h"

namespace millrace {

struct PlanDiff {
  template <typename T>
  struct Change {
    std::string what;
    std::optional<T> a, b;  // absent: that side has none, or does not tell
  };
  struct NodeGroup {
    enum class Kind { kOnlyInA, kOnlyInB, kOtherLane, kOtherPlace };
    Kind kind = Kind::kOnlyInA;
    std::string pattern, example;
    std::string lane_a, lane_b;
    int64_t count = 0;
  };
  // Edges between nodes that both sides have: who waits for whom, on one side only.
  struct EdgeGroup {
    bool in_a = false;
    std::string kind, from, to;  // "control", patterns of names
    int64_t count = 0;
  };
  std::string name_a, name_b;
  std::vector<Change<std::string>> config;
  std::vector<Change<int64_t>> counts, peak_bytes, at_peak, collective_count, collective_bytes;
  std::vector<Change<double>> seconds;
  std::vector<NodeGroup> nodes;
  std::vector<EdgeGroup> edges;
  bool nodes_compared = false;  // false: one side is a summary, which knows their number only

  bool same() const;
};

// Only what differs is in it. Times are equal within what a golden summary keeps of them (4 digits).
PlanDiff Diff(const PlanFacts& a, const PlanFacts& b);

std::string ToText(const PlanDiff& diff);
nlohmann::ordered_json ToJson(const PlanDiff& diff);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_ANALYZE_PLAN_DIFF_H_
