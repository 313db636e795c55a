#include "tools/analyze/plan_diff.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

namespace millrace {
namespace {

template <typename T>
std::optional<T> At(const std::map<std::string, T>& map, const std::string& key) {
  const auto at = map.find(key);
  return at == map.end() ? std::nullopt : std::optional<T>(at->second);
}

bool Equal(const std::string& a, const std::string& b) { return a == b; }
bool Equal(int64_t a, int64_t b) { return a == b; }
bool Equal(double a, double b) {
  return a == b || std::abs(a - b) <= 5.1e-4 * std::max(std::abs(a), std::abs(b));
}

template <typename T>
std::vector<PlanDiff::Change<T>> Changes(const std::map<std::string, T>& a,
                                         const std::map<std::string, T>& b) {
  std::set<std::string> keys;
  for (const auto& [key, unused] : a) keys.insert(key);
  for (const auto& [key, unused] : b) keys.insert(key);
  std::vector<PlanDiff::Change<T>> changes;
  for (const std::string& key : keys) {
    PlanDiff::Change<T> c{key, At(a, key), At(b, key)};
    if (!c.a || !c.b || !Equal(*c.a, *c.b)) changes.push_back(std::move(c));
  }
  return changes;
}

struct Place {
  std::string lane;
  size_t index = 0;
};

std::map<std::string, Place> PlacesOf(const PlanFacts& f) {
  std::map<std::string, Place> places;
  for (const auto& [lane, order] : f.lanes) {
    for (size_t i = 0; i < order.size(); ++i) places[order[i]] = {lane, i};
  }
  return places;
}

// Nodes of a common lane that must move so that A's order becomes B's: all but a longest increasing run.
std::set<std::string> Moved(const std::vector<std::string>& order_a,
                            const std::map<std::string, Place>& b, const std::string& lane) {
  std::vector<std::pair<std::string, size_t>> common;  // in A's order, with B's index
  for (const std::string& node : order_a) {
    const auto at = b.find(node);
    if (at != b.end() && at->second.lane == lane) common.push_back({node, at->second.index});
  }
  std::vector<size_t> tails,
      previous(common.size(), SIZE_MAX);  // patience: tails[k] ends a run of k + 1
  for (size_t i = 0; i < common.size(); ++i) {
    const auto slot = std::lower_bound(tails.begin(), tails.end(), i, [&](size_t x, size_t y) {
      return common[x].second < common[y].second;
    });
    if (slot != tails.begin()) previous[i] = *(slot - 1);
    if (slot == tails.end()) {
      tails.push_back(i);
    } else {
      *slot = i;
    }
  }
  std::set<std::string> moved;
  for (const auto& [node, index] : common) moved.insert(node);
  for (size_t i = tails.empty() ? SIZE_MAX : tails.back(); i != SIZE_MAX; i = previous[i])
    moved.erase(common[i].first);
  return moved;
}

std::vector<PlanDiff::NodeGroup> NodeGroups(const PlanFacts& fa, const PlanFacts& fb) {
  using Group = PlanDiff::NodeGroup;
  const std::map<std::string, Place> a = PlacesOf(fa), b = PlacesOf(fb);
  std::map<std::tuple<Group::Kind, std::string, std::string, std::string>, Group> groups;
  const auto add = [&](Group::Kind kind, const std::string& node, const std::string& lane_a,
                       const std::string& lane_b) {
    const std::string pattern = NamePattern(node);
    Group& group = groups[{kind, pattern, lane_a, lane_b}];
    if (group.count++ == 0) group = {kind, pattern, node, lane_a, lane_b, 1};
  };
  for (const auto& [node, place] : a) {
    const auto other = b.find(node);
    if (other == b.end()) {
      add(Group::Kind::kOnlyInA, node, place.lane, "");
    } else if (other->second.lane != place.lane) {
      add(Group::Kind::kOtherLane, node, place.lane, other->second.lane);
    }
  }
  for (const auto& [node, place] : b) {
    if (a.count(node) == 0) add(Group::Kind::kOnlyInB, node, "", place.lane);
  }
  for (const auto& [lane, order] : fa.lanes) {
    for (const std::string& node : Moved(order, b, lane))
      add(Group::Kind::kOtherPlace, node, lane, lane);
  }
  std::vector<Group> list;
  for (auto& [key, group] : groups) list.push_back(std::move(group));
  return list;
}

// Those of `mine` that `other` lacks although it has both nodes.
void AddEdges(const PlanFacts& mine, const PlanFacts& other, bool in_a,
              std::vector<PlanDiff::EdgeGroup>* list) {
  const std::map<std::string, Place> known = PlacesOf(other);
  std::map<std::tuple<std::string, std::string, std::string>, int64_t> groups;
  for (const auto& edge : mine.edges) {
    const auto& [kind, from, to] = edge;
    if (other.edges.count(edge) > 0 || known.count(from) == 0 || known.count(to) == 0) continue;
    ++groups[{kind, NamePattern(from), NamePattern(to)}];
  }
  for (const auto& [group, count] : groups) {
    const auto& [kind, from, to] = group;
    list->push_back({in_a, kind, from, to, count});
  }
}

}  // namespace

bool PlanDiff::same() const {
  return config.empty() && counts.empty() && peak_bytes.empty() && at_peak.empty() &&
         collective_count.empty() && collective_bytes.empty() && seconds.empty() && nodes.empty() &&
         edges.empty();
}

PlanDiff Diff(const PlanFacts& a, const PlanFacts& b) {
  PlanDiff d;
  d.name_a = a.name;
  d.name_b = b.name;
  if (!a.config.empty() && !b.config.empty()) d.config = Changes(a.config, b.config);
  d.counts = Changes(a.counts, b.counts);
  d.peak_bytes = Changes(a.peak_bytes, b.peak_bytes);
  d.at_peak = Changes(a.at_peak, b.at_peak);
  std::map<std::string, int64_t> count_a, count_b, bytes_a, bytes_b;
  for (const auto& [name, c] : a.collectives) {
    count_a[name] = c.count;
    bytes_a[name] = c.bytes;
  }
  for (const auto& [name, c] : b.collectives) {
    count_b[name] = c.count;
    bytes_b[name] = c.bytes;
  }
  d.collective_count = Changes(count_a, count_b);
  d.collective_bytes = Changes(bytes_a, bytes_b);
  d.seconds = Changes(a.seconds, b.seconds);
  if (a.over_bound && b.over_bound && !Equal(*a.over_bound, *b.over_bound))
    d.seconds.push_back({"step / lower bound", a.over_bound, b.over_bound});
  d.nodes_compared = a.has_nodes && b.has_nodes;
  if (!d.nodes_compared) return d;
  d.nodes = NodeGroups(a, b);
  AddEdges(a, b, /*in_a=*/true, &d.edges);
  AddEdges(b, a, /*in_a=*/false, &d.edges);
  return d;
}

}  // namespace millrace
