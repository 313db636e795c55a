#include "models/placement.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

namespace millrace {
namespace {

constexpr int64_t kForever = std::numeric_limits<int64_t>::max();

int64_t RoundUp(int64_t bytes) { return (bytes + 63) / 64 * 64; }

struct Block {
  int32_t id = 0;
  int64_t bytes = 0;       // as asked
  int64_t begin = -1;      // event index; -1: before the first
  int64_t end = kForever;  // event index of the free
  int64_t offset = -1;     // once placed
  int64_t size() const { return RoundUp(bytes); }
  bool Overlaps(const Block& o) const { return begin < o.end && o.begin < end; }
};

// Lowest offset of the tightest hole among `placed` that takes `b` for its whole life; -1 when none ends
// within `capacity`.
int64_t BestHole(const Block& b, const std::vector<Block>& placed, int64_t capacity) {
  std::vector<const Block*> conflicts;
  for (const Block& p : placed) {
    if (p.Overlaps(b)) conflicts.push_back(&p);
  }
  std::sort(conflicts.begin(), conflicts.end(),
            [](const Block* x, const Block* y) { return x->offset < y->offset; });
  int64_t best = -1, best_slack = kForever, cursor = 0;
  const auto consider = [&](int64_t hole_end) {
    const int64_t slack = hole_end - cursor - b.size();
    if (slack >= 0 && slack < best_slack) best = cursor, best_slack = slack;
  };
  for (const Block* c : conflicts) {
    consider(c->offset);
    cursor = std::max(cursor, c->offset + c->size());
  }
  consider(capacity);
  return best;
}

struct Packing {
  std::vector<Placement> placements;  // parallel to the blocks
  int64_t workspace_bytes = 0;
};

// Places `blocks` in the given order: into holes of the saved block first, else into the workspace.
Packing Pack(const std::vector<Block>& blocks, const std::vector<int>& order,
             std::vector<Block> saved, int64_t saved_bytes) {
  Packing result;
  result.placements.resize(blocks.size());
  std::vector<Block> workspace;
  for (int i : order) {
    Block b = blocks[i];
    Placement& p = result.placements[i];
    p.bytes = b.bytes;
    b.offset = BestHole(b, saved, saved_bytes);
    if (b.offset >= 0) {
      p.region = Placement::Region::kSaved;
      saved.push_back(b);
    } else {
      b.offset = BestHole(b, workspace, kForever / 2);
      p.region = Placement::Region::kWorkspace;
      workspace.push_back(b);
      result.workspace_bytes = std::max(result.workspace_bytes, b.offset + b.size());
    }
    p.offset = b.offset;
  }
  return result;
}

// The best of several orders; no order is best for all traces.
Packing PackBest(const std::vector<Block>& blocks, const std::vector<Block>& saved,
                 int64_t saved_bytes, int64_t last_event) {
  const auto life = [&](const Block& b) { return std::min(b.end, last_event) - b.begin; };
  const std::vector<std::function<double(const Block&)>> keys = {
      [](const Block& b) { return -static_cast<double>(b.bytes); },
      [](const Block& b) { return static_cast<double>(b.begin); },
      [&](const Block& b) { return -static_cast<double>(life(b)); },
      [&](const Block& b) { return -static_cast<double>(life(b)) * b.bytes; },
  };
  Packing best;
  for (size_t k = 0; k < keys.size(); ++k) {
    std::vector<int> order(blocks.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return keys[k](blocks[a]) < keys[k](blocks[b]); });
    Packing p = Pack(blocks, order, saved, saved_bytes);
    if (k == 0 || p.workspace_bytes < best.workspace_bytes) best = std::move(p);
  }
  return best;
}

std::map<int32_t, int64_t> FreeTimes(const std::vector<AllocationEvent>& events) {
  std::map<int32_t, int64_t> times;
  for (size_t i = 0; i < events.size(); ++i) {
    if (events[i].is_free) times[events[i].id] = static_cast<int64_t>(i);
  }
  return times;
}

// The plan of one node, given what is saved around it.
AllocationPlan PlaceNode(const std::vector<AllocationEvent>& events,
                         const BoundaryAllocations& boundary, const std::vector<Block>& saved,
                         int64_t saved_bytes) {
  const std::map<int32_t, int64_t> frees = FreeTimes(events);
  AllocationPlan plan;
  std::vector<Block> transient;
  std::vector<size_t> position;  // of each transient in the plan
  for (size_t i = 0; i < events.size(); ++i) {
    const AllocationEvent& e = events[i];
    if (e.is_free) continue;
    Placement p;
    p.bytes = e.bytes;
    const auto kept =
        std::find_if(saved.begin(), saved.end(), [&e](const Block& b) { return b.id == e.id; });
    const auto fixed = boundary.find(e.id);
    if (kept != saved.end()) {
      p.region = Placement::Region::kSaved;
      p.offset = kept->offset;
    } else if (fixed != boundary.end()) {
      p.region = fixed->second.region;
      p.index = fixed->second.index;
    } else {
      Block b{e.id, e.bytes, static_cast<int64_t>(i)};
      const auto it = frees.find(e.id);
      if (it != frees.end()) b.end = it->second;
      transient.push_back(b);
      position.push_back(plan.allocations.size());
    }
    plan.allocations.push_back(p);
  }
  const Packing packing =
      PackBest(transient, saved, saved_bytes, static_cast<int64_t>(events.size()));
  for (size_t i = 0; i < transient.size(); ++i) {
    plan.allocations[position[i]] = packing.placements[i];
  }
  plan.workspace_bytes = packing.workspace_bytes;
  return plan;
}

}  // namespace

StagePlacement PlaceTraining(const StageTrace& trace) {
  StagePlacement result;
  const std::map<int32_t, int64_t> forward_frees = FreeTimes(trace.forward);
  const std::map<int32_t, int64_t> backward_frees = FreeTimes(trace.backward);
  // One after the other in order of allocation: what is free early and late in forward, and what backward
  // frees, are then runs of neighbours.
  std::vector<Block> in_forward, in_backward;
  for (size_t i = 0; i < trace.forward.size(); ++i) {
    const AllocationEvent& e = trace.forward[i];
    if (e.is_free || forward_frees.count(e.id) > 0 || trace.boundary.count(e.id) > 0) continue;
    Block b{e.id, e.bytes, static_cast<int64_t>(i)};
    b.offset = result.saved_bytes;
    result.saved_bytes += b.size();
    in_forward.push_back(b);
    b.begin = -1;
    const auto it = backward_frees.find(e.id);
    if (it != backward_frees.end()) b.end = it->second;
    in_backward.push_back(b);
  }
  result.forward = PlaceNode(trace.forward, trace.boundary, in_forward, result.saved_bytes);
  result.backward = PlaceNode(trace.backward, trace.boundary, in_backward, result.saved_bytes);
  return result;
}

AllocationPlan PlaceAlone(const std::vector<AllocationEvent>& events,
                          const BoundaryAllocations& boundary) {
  return PlaceNode(events, boundary, {}, 0);
}

}  // namespace millrace
