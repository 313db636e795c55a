// A plan in two dozen numbers: does it fit, what fills the memory, what goes over the wire. This is
// what `millrace plan` prints, as text for people and as JSON for scripts (summary_json.h), and
// what golden files pin.
//
//   PlanSummary summary = Summarise(plan);
//   fputs(ToText(summary).c_str(), stderr);
//   puts(ToJson(summary).dump().c_str());
//
// Where ranks differ, a number is the largest of any rank unless it says otherwise.
#ifndef MILLRACE_GRAPH_PLAN_SUMMARY_H_
#define MILLRACE_GRAPH_PLAN_SUMMARY_H_

#include <array>
#include <string>
#include <vector>

#include "graph/plan/plan.h"

namespace millrace {

constexpr int kBufferKinds = static_cast<int>(BufferKind::kMetric) + 1;

struct PlanSummary {
  std::string name;
  std::string machine;
  std::string plan_hash;
  int world_size = 1;
  int64_t nodes = 0;  // of the graph; the halves of an asynchronous operation are two
  int64_t lanes = 0;  // different ones, over all ranks
  std::vector<std::string> lane_names;

  std::array<int64_t, kTiers> peak_bytes{};
  std::array<int64_t, kTiers> live_bytes_bound{};
  std::array<int64_t, kTiers> budget_bytes{};            // 0: none
  std::array<int64_t, kBufferKinds> persistent_bytes{};  // by BufferKind, all tiers together
  struct Rank {
    int rank = 0;
    std::array<int64_t, kTiers> peak_bytes{};
  };
  std::vector<Rank> per_rank;      // ascending
  std::vector<PeakEntry> at_peak;  // of the rank with the tier's highest peak; largest first

  // What one rank does per step. Sent are, by the best algorithms' accounting, for a count c as in
  // CollectiveSpec over n ranks: all_gather and reduce_scatter c (n-1), all_reduce 2c (n-1)/n,
  // all_to_all c (n-1)/n, broadcast c, barrier nothing.
  struct Collective {
    CollectiveOp op = CollectiveOp::kAllReduce;
    std::string group;
    int group_size = 1;
    int64_t count_per_step = 0;
    int64_t elements_per_step = 0;  // sent
    int64_t bytes_per_step = 0;     // sent
  };
  std::vector<Collective> collectives;  // by operation, then group
  int64_t comm_elements_per_rank = 0;   // sent, over all collectives

  // Without padding and whatever the sharding: of a lowered graph the parameters in its buckets, of
  // a hand-written one those in persistent buffers of kind parameter.
  int64_t parameters = 0;
  int64_t flops_per_step = 0;  // all nodes of all ranks together

  // As the graph has it: one load_batch per micro-batch, its first output's first dimension, over
  // the group "data". The caller may know better.
  struct Batch {
    int64_t micro = 0;
    int64_t accumulation = 0;
    int64_t global = 0;
  };
  Batch batch;

  double planned_step_seconds = 0;  // end of the planner's own schedule
  double seconds_to_plan = 0;
};

// Elements or bytes that a rank sends in a collective of `count` over a group of `size`.
int64_t Sent(CollectiveOp op, int64_t count, int size);

PlanSummary Summarise(const Plan& plan);

// At most 25 lines.
std::string ToText(const PlanSummary& summary);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_PLAN_SUMMARY_H_
