// Counts. How the numbers are printed is in summary_text.cc and summary_json.cc.
#include "graph/plan/summary.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <utility>

namespace millrace {
namespace {

template <size_t n>
void TakeLarger(const std::array<int64_t, n>& from, std::array<int64_t, n>& to) {
  for (size_t i = 0; i < n; ++i) to[i] = std::max(to[i], from[i]);
}

// The nodes that a rank has: those in its lanes, each once.
std::vector<NodeId> NodesOf(const Graph& graph, const RankPlan& plan) {
  std::vector<bool> has(graph.nodes().size());
  std::vector<NodeId> nodes;
  for (const Lane& lane : plan.lanes) {
    for (NodeId id : lane.order) {
      if (id < 0 || id >= static_cast<NodeId>(has.size()) || has[id]) continue;
      has[id] = true;
      nodes.push_back(id);
    }
  }
  return nodes;
}

void Memory(const Plan& plan, PlanSummary& s) {
  std::array<const RankPlan*, kTiers> worst{};
  for (const RankPlan& rank_plan : plan.rank_plans) {
    for (int t = 0; t < kTiers; ++t) {
      if (worst[t] == nullptr || rank_plan.arena_bytes[t] > worst[t]->arena_bytes[t]) {
        worst[t] = &rank_plan;
      }
    }
    TakeLarger(rank_plan.arena_bytes, s.peak_bytes);
    TakeLarger(rank_plan.live_bytes_bound, s.live_bytes_bound);
    std::array<int64_t, kBufferKinds> persistent{};
    for (size_t b = 0; b < plan.graph.buffers().size(); ++b) {
      const Buffer& buffer = plan.graph.buffers()[b];
      const bool has = b >= rank_plan.offset.size() || rank_plan.offset[b] >= 0;
      if (buffer.persistent && has) persistent[static_cast<int>(buffer.kind)] += buffer.bytes;
    }
    TakeLarger(persistent, s.persistent_bytes);
    for (int rank : rank_plan.ranks) s.per_rank.push_back({rank, rank_plan.arena_bytes});
  }
  std::sort(s.per_rank.begin(), s.per_rank.end(),
            [](const auto& a, const auto& b) { return a.rank < b.rank; });
  for (int t = 0; t < kTiers; ++t) {
    if (worst[t] == nullptr) continue;
    for (const PeakEntry& entry : worst[t]->at_peak) {
      if (static_cast<int>(entry.tier) == t) s.at_peak.push_back(entry);
    }
  }
  std::stable_sort(s.at_peak.begin(), s.at_peak.end(),
                   [](const PeakEntry& a, const PeakEntry& b) { return a.bytes > b.bytes; });
}

void Lanes(const Plan& plan, PlanSummary& s) {
  std::set<std::string> seen;
  for (const RankPlan& rank_plan : plan.rank_plans) {
    for (const Lane& lane : rank_plan.lanes) {
      if (seen.insert(lane.name).second) s.lane_names.push_back(lane.name);
    }
    const size_t n = std::min(rank_plan.start_time.size(), rank_plan.seconds.size());
    for (size_t i = 0; i < n; ++i) {
      s.planned_step_seconds =
          std::max(s.planned_step_seconds, rank_plan.start_time[i] + rank_plan.seconds[i]);
    }
  }
  s.lanes = static_cast<int64_t>(s.lane_names.size());
}

// Counts and bytes are added up before they become what is sent: (n-1)/n of a sum rounds once.
void Communication(const Plan& plan, PlanSummary& s) {
  using Key = std::pair<CollectiveOp, std::string>;
  struct Sum {
    int64_t times = 0, elements = 0, bytes = 0;
  };
  std::map<Key, PlanSummary::Collective> all;
  for (const RankPlan& rank_plan : plan.rank_plans) {
    std::map<Key, Sum> sums;
    for (NodeId id : NodesOf(plan.graph, rank_plan)) {
      const Node& node = plan.graph.nodes()[id];
      if (!node.is_collective || node.async == AsyncRole::kDone) continue;
      Sum& sum = sums[{node.collective.op, node.collective.group}];
      ++sum.times;
      sum.elements += node.collective.count;
      sum.bytes += node.collective.count * SizeOf(node.collective.dtype);
    }
    int64_t elements_of_rank = 0;
    for (const auto& [key, sum] : sums) {
      PlanSummary::Collective& c = all[key];
      c.op = key.first;
      c.group = key.second;
      c.group_size = plan.graph.group_size(c.group);
      const int64_t elements = Sent(c.op, sum.elements, c.group_size);
      c.count_per_step = std::max(c.count_per_step, sum.times);
      c.elements_per_step = std::max(c.elements_per_step, elements);
      c.bytes_per_step = std::max(c.bytes_per_step, Sent(c.op, sum.bytes, c.group_size));
      elements_of_rank += elements;
    }
    s.comm_elements_per_rank = std::max(s.comm_elements_per_rank, elements_of_rank);
  }
  for (auto& [key, collective] : all) s.collectives.push_back(std::move(collective));
}

// The elements that the values present at the start of the step cover in persistent parameter
// buffers. Values may overlap: a whole parameter and this rank's part of it.
int64_t ParametersInBuffers(const Graph& graph) {
  using Bytes = std::pair<int64_t, int64_t>;  // begin, end
  std::map<std::pair<BufferId, DType>, std::vector<Bytes>> covered;
  for (size_t i = 0; i < graph.values().size(); ++i) {
    const Value& v = graph.values()[i];
    const Buffer& buffer = graph.buffers()[v.buffer];
    if (buffer.kind != BufferKind::kParameter || !buffer.persistent) continue;
    if (graph.producer(static_cast<ValueId>(i)) >= 0) continue;
    const bool shard = v.own_shard || v.sharding == Sharding::kSharded;
    const int64_t copies = shard ? graph.group_size(v.group) : 1;
    covered[{v.buffer, v.dtype}].push_back({v.offset, v.offset + v.bytes() * copies});
  }
  int64_t elements = 0;
  for (auto& [where, ranges] : covered) {
    std::sort(ranges.begin(), ranges.end());
    int64_t bytes = 0, end = 0;
    for (const auto& [from, to] : ranges) {
      bytes += std::max<int64_t>(0, to - std::max(from, end));
      end = std::max(end, to);
    }
    elements += bytes / SizeOf(where.second);
  }
  return elements;
}

int64_t Parameters(const Graph& graph) {
  if (graph.buckets().empty()) return ParametersInBuffers(graph);
  int64_t elements = 0;
  for (const Bucket& bucket : graph.buckets()) {
    for (const ParamSlot& slot : bucket.slots) elements += slot.numel;
  }
  return elements;
}

int64_t Flops(const Plan& plan) {
  int64_t total = 0;
  for (const RankPlan& rank_plan : plan.rank_plans) {
    const int64_t ranks = static_cast<int64_t>(rank_plan.ranks.size());
    int64_t flops = 0;
    for (NodeId id : NodesOf(plan.graph, rank_plan)) {
      const Node& node = plan.graph.nodes()[id];
      if (node.async != AsyncRole::kDone) flops += node.flops;
    }
    if (__builtin_mul_overflow(flops, ranks, &flops) ||
        __builtin_add_overflow(total, flops, &total)) {
      return std::numeric_limits<int64_t>::max();
    }
  }
  return total;
}

PlanSummary::Batch BatchOf(const Graph& graph) {
  PlanSummary::Batch batch;
  auto see = [&](ValueId id) {
    const Value& v = graph.values()[id];
    if (batch.micro == 0 && !v.shape.empty()) batch.micro = v.shape[0];
  };
  for (const Node& node : graph.nodes()) {
    if (node.op != "load_batch" || node.outputs.empty()) continue;
    see(node.outputs[0]);
    ++batch.accumulation;
  }
  if (batch.accumulation == 0) {  // a hand-written step that finds its batch in a buffer
    for (size_t i = 0; i < graph.values().size(); ++i) {
      const BufferId buffer = graph.values()[i].buffer;
      if (graph.buffers()[buffer].kind == BufferKind::kInput) see(static_cast<ValueId>(i));
    }
    batch.accumulation = batch.micro > 0 ? 1 : 0;
  }
  batch.global = batch.micro * batch.accumulation * graph.group_size("data");
  return batch;
}

}  // namespace

int64_t Sent(CollectiveOp op, int64_t count, int size) {
  if (size <= 1) return 0;
  switch (op) {
    case CollectiveOp::kAllGather:
    case CollectiveOp::kReduceScatter:
      return count * (size - 1);
    case CollectiveOp::kAllReduce:
      return 2 * count * (size - 1) / size;
    case CollectiveOp::kAllToAll:
      return count * (size - 1) / size;
    case CollectiveOp::kBroadcast:
      return count;
    case CollectiveOp::kBarrier:
      return 0;
  }
  return 0;
}

PlanSummary Summarise(const Plan& plan) {
  PlanSummary s;
  s.name = plan.name;
  s.machine = plan.machine;
  s.plan_hash = plan.hash;
  s.world_size = plan.world_size;
  s.nodes = static_cast<int64_t>(plan.graph.nodes().size());
  s.budget_bytes = plan.budget_bytes;
  Lanes(plan, s);
  Memory(plan, s);
  Communication(plan, s);
  s.parameters = Parameters(plan.graph);
  s.flops_per_step = Flops(plan);
  s.batch = BatchOf(plan.graph);
  s.seconds_to_plan = plan.seconds_to_plan;
  return s;
}

}  // namespace millrace
