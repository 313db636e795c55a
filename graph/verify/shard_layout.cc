#include "graph/verify/shard_layout.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "graph/verify/rank_group.h"

namespace millrace {
namespace verify_internal {
namespace {

// Own shards at [base + index * bytes, base + (index + 1) * bytes).
struct Family {
  int tier;
  int64_t base, bytes;
  std::string group;
  int64_t Low(int index) const { return base + index * bytes; }
  int64_t High(int index) const { return Low(index) + bytes; }
  bool operator<(const Family& o) const {
    return std::tie(tier, base, bytes, group) < std::tie(o.tier, o.base, o.bytes, o.group);
  }
};

std::vector<Family> Families(const Context& c, const RankPlan& plan) {
  std::set<Family> families;
  for (const Value& v : c.graph().values()) {
    if (!v.own_shard || v.bytes() == 0) continue;
    families.insert({static_cast<int>(c.buffer(v.buffer).tier), plan.offset[v.buffer] + v.offset,
                     v.bytes(), v.group});
  }
  return {families.begin(), families.end()};
}

int64_t EndOf(const Context& c, const Family& f) {
  return f.base + f.bytes * c.graph().group_size(f.group);
}

// Where x lies among sorted bounds: even numbers are bounds, odd ones gaps between them.
int64_t PlaceAmong(const std::vector<int64_t>& bounds, int64_t x) {
  const auto it = std::lower_bound(bounds.begin(), bounds.end(), x);
  const int64_t below = 2 * (it - bounds.begin());
  return it != bounds.end() && *it == x ? below : below - 1;
}

int64_t Sign(int64_t x) { return x < 0 ? -1 : x > 0 ? 1 : 0; }

}  // namespace

std::vector<int> DistinctLayouts(const Context& c, const RankPlan& plan,
                                 const std::vector<Access>& accesses) {
  const std::vector<Family> families = Families(c, plan);
  if (families.empty() || plan.ranks.size() == 1) return {plan.ranks.front()};
  std::array<std::vector<int64_t>, kTiers> bounds;  // of what lies in the same place on all ranks
  for (const Access& a : accesses) {
    if (c.value(a.value).own_shard) continue;
    bounds[static_cast<size_t>(a.tier)].push_back(a.low);
    bounds[static_cast<size_t>(a.tier)].push_back(a.high);
  }
  for (std::vector<int64_t>& b : bounds) {
    std::sort(b.begin(), b.end());
    b.erase(std::unique(b.begin(), b.end()), b.end());
  }
  // Families that share bytes; they are sorted by where they begin.
  std::vector<std::pair<size_t, size_t>> meeting;
  for (size_t i = 0; i < families.size(); ++i) {
    for (size_t k = i + 1; k < families.size() && families[k].tier == families[i].tier &&
                           families[k].base < EndOf(c, families[i]);
         ++k) {
      meeting.push_back({i, k});
    }
  }
  std::vector<int> ranks;
  std::set<std::vector<int64_t>> seen;
  std::map<std::string, int> index;
  for (int rank : plan.ranks) {
    for (const auto& [group, size] : c.graph().groups())
      index[group] = IndexInGroup(*c.plan, group, rank);
    std::vector<int64_t> order;
    order.reserve(2 * families.size() + 4 * meeting.size());
    for (const Family& f : families) {
      const std::vector<int64_t>& among = bounds[static_cast<size_t>(f.tier)];
      order.push_back(PlaceAmong(among, f.Low(index[f.group])));
      order.push_back(PlaceAmong(among, f.High(index[f.group])));
    }
    for (const auto& [i, k] : meeting) {
      const Family &a = families[i], &b = families[k];
      const int at = index[a.group], bt = index[b.group];
      for (const int64_t x : {a.Low(at), a.High(at)}) {
        for (const int64_t y : {b.Low(bt), b.High(bt)}) order.push_back(Sign(x - y));
      }
    }
    if (seen.insert(std::move(order)).second) ranks.push_back(rank);
  }
  return ranks;
}

std::vector<Access> AtSharedPlaces(const Context& c, const RankPlan& plan,
                                   const std::vector<Access>& accesses) {
  std::array<std::vector<std::pair<int64_t, int64_t>>, kTiers> spans;  // apart and ascending
  for (const Family& f : Families(c, plan)) {
    auto& of_tier = spans[static_cast<size_t>(f.tier)];
    if (!of_tier.empty() && f.base <= of_tier.back().second) {
      of_tier.back().second = std::max(of_tier.back().second, EndOf(c, f));
    } else {
      of_tier.push_back({f.base, EndOf(c, f)});
    }
  }
  std::vector<Access> some;
  for (const Access& a : accesses) {
    const auto& of_tier = spans[static_cast<size_t>(a.tier)];
    const auto it = std::upper_bound(of_tier.begin(), of_tier.end(), a.low,
                                     [](int64_t low, const auto& s) { return low < s.second; });
    if (it != of_tier.end() && it->first < a.high) some.push_back(a);
  }
  return some;
}

}  // namespace verify_internal
}  // namespace millrace
