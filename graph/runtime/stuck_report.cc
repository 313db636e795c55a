#include "graph/runtime/stuck_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/runtime/groups.h"

namespace millrace {
namespace {

const Node& NodeOf(const RankProgress& p, int32_t index) {
  return p.program->plan->graph.nodes()[p.program->nodes[index].id];
}

const RankProgress* Find(const std::vector<RankProgress>& progress, int rank) {
  for (const RankProgress& p : progress) {
    if (p.program->rank == rank) return &p;
  }
  return nullptr;
}

// The node that joins the collective: the start half, or the node itself when it is not split.
NodeId Joining(const RankProgress& p, int32_t index) {
  const ProgramNode& node = p.program->nodes[index];
  return node.role == AsyncRole::kDone ? p.program->nodes[node.partner].id : node.id;
}

std::string Describe(const Node& node) {
  if (!node.is_collective) return absl::StrCat(node.name, " (", node.op, ")");
  return absl::StrCat(node.name, " (", Name(node.collective.op), ", group ", node.collective.group,
                      ")");
}

std::string LastEnded(const RankProgress& p) {
  return p.last_ended < 0 ? "none of this step" : NodeOf(p, p.last_ended).name;
}

std::vector<int32_t> Unfinished(const RankProgress& p) {
  std::vector<int32_t> waits;
  for (int32_t i = 0; i < p.program->issue_count; ++i) {
    if (p.phase[i] == NodePhase::kRunning) return {i};
  }
  if (!p.on_device.empty()) return p.on_device;
  for (int32_t i = 0; i < p.program->issue_count; ++i) {
    if (p.phase[i] != NodePhase::kNotBegun) continue;
    for (int32_t q : p.program->nodes[i].predecessors) {
      if (p.phase[q] != NodePhase::kEnded) waits.push_back(q);
    }
    if (!waits.empty()) return waits;
  }
  for (int32_t i = p.program->issue_count; i < static_cast<int32_t>(p.phase.size()); ++i) {
    if (p.phase[i] != NodePhase::kEnded) waits.push_back(i);
  }
  return waits;
}

bool Waits(const RankProgress& p, int32_t index) {
  return p.phase[index] != NodePhase::kRunning || NodeOf(p, index).is_collective;
}

std::string Doing(const RankProgress& p) {
  const std::vector<int32_t> unfinished = Unfinished(p);
  if (unfinished.empty()) return "finished with the step";
  return absl::StrCat(Waits(p, unfinished[0]) ? "waiting for " : "now running ",
                      NodeOf(p, unfinished[0]).name);
}

std::string WhyNot(const std::vector<RankProgress>& progress, const RankProgress& mine,
                   int32_t index) {
  const Node& node = NodeOf(mine, index);
  if (mine.phase[index] == NodePhase::kNotBegun) return "it has not begun";
  if (!node.is_collective) return "it has not completed";
  std::vector<std::string> parts;
  for (int rank : MissingMembers(progress, mine, index)) {
    const RankProgress& theirs = *Find(progress, rank);
    parts.push_back(absl::StrCat("rank ", rank, " has not started it; rank ", rank,
                                 "'s last finished node is ", LastEnded(theirs), ", ",
                                 Doing(theirs)));
  }
  const int rank = mine.program->rank;
  for (int r : GroupMembers(mine.program->plan->graph, node.collective.group, rank)) {
    if (Find(progress, r) == nullptr) {
      parts.push_back(absl::StrCat("rank ", r, " is in another process"));
    }
  }
  if (parts.empty()) return "all members have started it, it has not completed";
  return absl::StrJoin(parts, "; ");
}

}  // namespace

std::vector<int> MissingMembers(const std::vector<RankProgress>& progress, const RankProgress& mine,
                                int32_t index) {
  const Node& node = NodeOf(mine, index);
  const NodeId joining = Joining(mine, index);
  std::vector<int> missing;
  for (int rank :
       GroupMembers(mine.program->plan->graph, node.collective.group, mine.program->rank)) {
    const RankProgress* theirs = Find(progress, rank);
    if (theirs == nullptr) continue;
    const int32_t there = theirs->program->index_of[joining];
    if (there < 0 || theirs->phase[there] == NodePhase::kNotBegun ||
        theirs->phase[there] == NodePhase::kQueued) {
      missing.push_back(rank);
    }
  }
  return missing;
}

bool MayEndElsewhere(const std::vector<RankProgress>& progress, const RankProgress& mine,
                     int32_t index) {
  const Node& node = NodeOf(mine, index);
  // A member of this process that has not come keeps the collective open, whatever others do.
  return !node.is_collective || MissingMembers(progress, mine, index).empty();
}

std::string WaitForChain(const std::vector<RankProgress>& progress) {
  std::string text;
  for (const RankProgress& p : progress) {
    absl::StrAppend(&text, text.empty() ? "" : "\n", "rank ", p.program->rank, ": ");
    const std::vector<int32_t> unfinished = Unfinished(p);
    if (unfinished.empty()) absl::StrAppend(&text, "has finished the step. ");
    for (int32_t i : unfinished) {
      if (Waits(p, i)) {
        absl::StrAppend(&text, "waits for ", Describe(NodeOf(p, i)), ": ", WhyNot(progress, p, i),
                        ". ");
      } else {
        absl::StrAppend(&text, "runs ", Describe(NodeOf(p, i)), ". ");
      }
    }
    std::vector<std::string> in_flight;
    for (size_t i = 0; i < p.phase.size(); ++i) {
      if (p.phase[i] == NodePhase::kInFlight) in_flight.push_back(Describe(NodeOf(p, i)));
    }
    absl::StrAppend(&text, "Last finished node: ", LastEnded(p),
                    ". In flight: ", in_flight.empty() ? "nothing" : absl::StrJoin(in_flight, ", "),
                    ".");
  }
  return text;
}

}  // namespace millrace
