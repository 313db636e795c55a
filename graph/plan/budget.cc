#include "graph/plan/budget.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace millrace {
namespace {

std::string Bytes(int64_t bytes) {
  const auto n = static_cast<double>(bytes);
  if (n >= 1e9) return absl::StrFormat("%.2f GB", n / 1e9);
  if (n >= 1e6) return absl::StrFormat("%.1f MB", n / 1e6);
  if (n >= 1e3) return absl::StrFormat("%.1f kB", n / 1e3);
  return absl::StrFormat("%d B", bytes);
}

// Bytes of all buffers of a kind, persistent ones or the others.
int64_t Sum(const Graph& graph, BufferKind kind, bool persistent) {
  int64_t sum = 0;
  for (const Buffer& b : graph.buffers()) {
    if (b.kind == kind && b.persistent == persistent && b.tier == Tier::kDevice) sum += b.bytes;
  }
  return sum;
}

// How many times larger than one rank's part a kind's persistent buffers are: 1 when already sharded.
bool Whole(const Graph& graph, BufferKind kind) {
  for (const Value& v : graph.values()) {
    const Buffer& b = graph.buffers()[v.buffer];
    if (b.kind == kind && b.persistent && v.sharding == Sharding::kSharded && !v.own_shard) {
      return false;
    }
  }
  return true;
}

std::vector<std::string> WhatWouldHelp(const Plan& plan) {
  const Graph& graph = plan.graph;
  std::vector<std::string> help;
  const int ranks = plan.world_size;
  if (ranks > 1 && !graph.buckets().empty()) {
    const struct {
      BufferKind kind;
      const char* what;
      int stage;
    } kinds[] = {{BufferKind::kOptimizerState, "optimizer states", 1},
                 {BufferKind::kGradient, "gradients", 2},
                 {BufferKind::kParameter, "parameters", 3}};
    for (const auto& k : kinds) {
      const int64_t bytes = Sum(graph, k.kind, true);
      if (bytes == 0 || !Whole(graph, k.kind)) continue;
      help.push_back(absl::StrCat("parallel.zero.stage ", k.stage, " or higher shards ", k.what,
                                  " (-", Bytes(bytes - bytes / ranks), " on ", ranks, " ranks)"));
    }
  } else if (!graph.buckets().empty()) {
    help.push_back(
        "parallel.data > 1 with parallel.zero.stage 3 shards parameters, gradients and "
        "optimizer states");
  }
  const int64_t saved = Sum(graph, BufferKind::kSaved, false);
  if (saved > 0) {
    help.push_back(absl::StrCat(
        "memory.recompute (all, every, or auto for the fewest stages) keeps less of the ",
        Bytes(saved), " that backward needs of forward"));
  }
  if (Sum(graph, BufferKind::kSaved, false) + Sum(graph, BufferKind::kActivation, false) > 0) {
    help.push_back(
        "a smaller train.micro_batch with a larger train.accumulation keeps fewer saved "
        "bytes for the same batch");
  }
  if (Sum(graph, BufferKind::kGathered, false) > 0) {
    help.push_back(
        "a smaller parallel.zero.prefetch_depth or reduce_bucket_bytes gathers less at a time");
  }
  return help;
}

}  // namespace

absl::Status CheckBudget(const Plan& plan) {
  std::string text;
  for (int t = 0; t < kTiers; ++t) {
    const int64_t budget = plan.budget_bytes[t];
    for (const RankPlan& rank : plan.rank_plans) {
      if (budget == 0 || rank.arena_bytes[t] <= budget) continue;
      const auto tier = static_cast<Tier>(t);
      absl::StrAppend(&text, text.empty() ? "" : "\n", "planning ", plan.name, " on machine '",
                      plan.machine, "': rank ", rank.ranks.front(), " needs ",
                      Bytes(rank.arena_bytes[t]), " (", rank.arena_bytes[t], " bytes) of ",
                      Name(tier), " memory, ", Bytes(rank.arena_bytes[t] - budget),
                      " more than the budget of ", Bytes(budget), " (", budget,
                      " bytes); at the peak:");
      int shown = 0;
      for (const PeakEntry& entry : rank.at_peak) {
        if (entry.tier != tier || ++shown > 12) continue;
        absl::StrAppend(&text, "\n  ", Bytes(entry.bytes), "  ", entry.what);
      }
    }
  }
  if (text.empty()) return absl::OkStatus();
  const std::vector<std::string> help = WhatWouldHelp(plan);
  if (!help.empty()) absl::StrAppend(&text, "\nwhat would help: ", absl::StrJoin(help, "; "));
  return absl::ResourceExhaustedError(text);
}

}  // namespace millrace
