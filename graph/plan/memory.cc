#include "graph/plan/memory.h"

#include <algorithm>
#include <functional>
#include <map>

#include "absl/strings/str_cat.h"
#include "graph/plan/packing.h"

namespace millrace {
namespace {

int64_t Aligned(const Buffer& buffer) {
  const int64_t align = AlignmentOf(buffer.tier);
  return (buffer.bytes + align - 1) / align * align;
}

// Live bytes at every place of the issue lane.
std::vector<int64_t> LiveBytes(const Graph& graph, const std::vector<LiveRange>& ranges,
                               Tier tier) {
  int places = 1;
  for (const LiveRange& r : ranges) places = std::max(places, r.death + 1);
  std::vector<int64_t> change(places + 1);
  for (size_t b = 0; b < ranges.size(); ++b) {
    if (graph.buffers()[b].tier != tier || ranges[b].birth > ranges[b].death) continue;
    const int64_t bytes = Aligned(graph.buffers()[b]);
    change[ranges[b].birth] += bytes;
    change[ranges[b].death + 1] -= bytes;
  }
  for (int p = 1; p <= places; ++p) change[p] += change[p - 1];
  change.pop_back();
  return change;
}

// Buffers of one kind are named together: "saved: 12 buffers, largest saved/layers.3/0".
std::string GroupName(const Buffer& buffer) {
  const std::string prefix = buffer.name.substr(0, buffer.name.find('/'));
  return absl::StrCat(prefix, buffer.persistent ? " (persistent)" : "");
}

void AddPeak(const Graph& graph, const std::vector<LiveRange>& ranges, Tier tier, int place,
             int64_t gaps, std::vector<PeakEntry>* entries) {
  struct Group {
    int64_t bytes = 0;
    int count = 0;
    const Buffer* largest = nullptr;
  };
  std::map<std::string, Group> groups;
  for (size_t b = 0; b < ranges.size(); ++b) {
    const Buffer& buffer = graph.buffers()[b];
    if (buffer.tier != tier || buffer.bytes == 0) continue;
    if (place < ranges[b].birth || place > ranges[b].death) continue;
    Group& group = groups[GroupName(buffer)];
    group.bytes += Aligned(buffer);
    ++group.count;
    if (group.largest == nullptr || buffer.bytes > group.largest->bytes) group.largest = &buffer;
  }
  const size_t first = entries->size();
  for (const auto& [name, group] : groups) {
    entries->push_back({tier,
                        group.count == 1 ? group.largest->name
                                         : absl::StrCat(name, ": ", group.count,
                                                        " buffers, largest ", group.largest->name),
                        group.bytes});
  }
  if (gaps > 0) entries->push_back({tier, "gaps between buffers", gaps});
  std::stable_sort(entries->begin() + static_cast<int64_t>(first), entries->end(),
                   [](const PeakEntry& a, const PeakEntry& b) { return a.bytes > b.bytes; });
}

}  // namespace

int64_t LiveBytesBound(const Graph& graph, const std::vector<LiveRange>& ranges, Tier tier) {
  const std::vector<int64_t> live = LiveBytes(graph, ranges, tier);
  return *std::max_element(live.begin(), live.end());
}

MemoryPlan PlaceBuffers(const Graph& graph, const std::vector<LiveRange>& ranges) {
  MemoryPlan plan;
  plan.offset.assign(graph.buffers().size(), 0);
  for (int t = 0; t < kTiers; ++t) {
    const auto tier = static_cast<Tier>(t);
    int64_t base = 0;
    std::vector<Block> blocks;
    std::vector<size_t> buffer_of;
    for (size_t b = 0; b < graph.buffers().size(); ++b) {
      const Buffer& buffer = graph.buffers()[b];
      if (buffer.tier != tier) continue;
      if (buffer.persistent) {
        plan.offset[b] = base;
        base += Aligned(buffer);
      } else if (ranges[b].birth <= ranges[b].death && buffer.bytes > 0) {
        blocks.push_back({Aligned(buffer), ranges[b]});
        buffer_of.push_back(b);
      }
    }
    plan.persistent_bytes[t] = base;
    const std::vector<int64_t> live = LiveBytes(graph, ranges, tier);
    const auto peak = std::max_element(live.begin(), live.end());
    plan.live_bytes_bound[t] = std::max(*peak, base);
    const Packing packing = Pack(blocks, plan.live_bytes_bound[t] - base);
    plan.arena_bytes[t] = base + packing.bytes;
    plan.packing[t] = packing.order;
    for (size_t i = 0; i < blocks.size(); ++i) {
      plan.offset[buffer_of[i]] = base + packing.offset[i];
    }
    // A buffer that is never used shares its bytes with all, but must lie inside the arena.
    for (size_t b = 0; b < graph.buffers().size(); ++b) {
      const Buffer& buffer = graph.buffers()[b];
      if (buffer.tier == tier && !buffer.persistent && ranges[b].birth > ranges[b].death) {
        plan.offset[b] = base;
        const int64_t end = base + Aligned(buffer);
        plan.arena_bytes[t] = std::max(plan.arena_bytes[t], end);
        plan.live_bytes_bound[t] = std::max(plan.live_bytes_bound[t], end);
      }
    }
    if (plan.arena_bytes[t] > 0) {
      AddPeak(graph, ranges, tier, static_cast<int>(peak - live.begin()),
              plan.arena_bytes[t] - *peak, &plan.at_peak);
    }
  }
  return plan;
}

}  // namespace millrace
