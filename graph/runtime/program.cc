#include "graph/runtime/program.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

using IndexEdge = std::pair<int32_t, int32_t>;

// Tables of (node, chain) larger than this are not made: plans whose lanes are not chains have little to drop.
constexpr int64_t kLargestTable = 1 << 25;

std::vector<std::vector<int32_t>> Adjacency(int32_t nodes, const std::vector<IndexEdge>& edges,
                                            bool backward) {
  std::vector<std::vector<int32_t>> lists(nodes);
  for (const IndexEdge& e : edges) {
    if (backward) {
      lists[e.second].push_back(e.first);
    } else {
      lists[e.first].push_back(e.second);
    }
  }
  return lists;
}

// Empty when the edges have a cycle; then `stuck` holds the nodes on cycles or behind them.
std::vector<int32_t> TopologicalOrder(int32_t nodes, const std::vector<IndexEdge>& edges,
                                      std::vector<int32_t>& stuck) {
  const auto successors = Adjacency(nodes, edges, false);
  std::vector<int32_t> open(nodes, 0);
  for (const IndexEdge& e : edges) ++open[e.second];
  std::vector<int32_t> order;
  for (int32_t i = 0; i < nodes; ++i) {
    if (open[i] == 0) order.push_back(i);
  }
  for (size_t next = 0; next < order.size(); ++next) {
    for (int32_t s : successors[order[next]]) {
      if (--open[s] == 0) order.push_back(s);
    }
  }
  if (static_cast<int32_t>(order.size()) == nodes) return order;
  for (int32_t i = 0; i < nodes; ++i) {
    if (open[i] > 0) stuck.push_back(i);
  }
  return {};
}

}  // namespace

std::vector<IndexEdge> DropImpliedEdges(int32_t nodes, const std::vector<IndexEdge>& edges,
                                        const std::vector<int32_t>& topological_order,
                                        const std::vector<std::vector<int32_t>>& lanes) {
  std::vector<IndexEdge> unique = edges;
  std::sort(unique.begin(), unique.end());
  unique.erase(std::unique(unique.begin(), unique.end()), unique.end());

  // Cut the lanes into chains: stretches whose neighbours are joined by edges. What a node comes after is
  // then one number per chain, the last place of the chain that it comes after.
  std::vector<int32_t> chain(nodes, -1);
  std::vector<int32_t> place(nodes, 0);
  int32_t chains = 0;
  for (const std::vector<int32_t>& lane : lanes) {
    for (size_t i = 0; i < lane.size(); ++i) {
      const bool goes_on = i > 0 && std::binary_search(unique.begin(), unique.end(),
                                                       IndexEdge(lane[i - 1], lane[i]));
      chain[lane[i]] = goes_on ? chain[lane[i - 1]] : chains++;
      place[lane[i]] = goes_on ? place[lane[i - 1]] + 1 : 0;
    }
  }
  if (static_cast<int64_t>(nodes) * chains > kLargestTable) return unique;

  const auto predecessors = Adjacency(nodes, unique, true);
  std::vector<int32_t> after(static_cast<size_t>(nodes) * chains, -1);
  std::vector<IndexEdge> kept;
  for (int32_t n : topological_order) {
    int32_t* mine = &after[static_cast<size_t>(n) * chains];
    for (int32_t p : predecessors[n]) {
      bool implied = false;
      for (int32_t q : predecessors[n]) {
        if (q == p) continue;
        // q comes after p, so p before n follows from q before n.
        if (after[static_cast<size_t>(q) * chains + chain[p]] >= place[p]) implied = true;
        if (implied) break;
      }
      if (!implied) kept.push_back({p, n});
    }
    for (int32_t p : predecessors[n]) {
      const int32_t* theirs = &after[static_cast<size_t>(p) * chains];
      for (int32_t c = 0; c < chains; ++c) mine[c] = std::max(mine[c], theirs[c]);
      mine[chain[p]] = std::max(mine[chain[p]], place[p]);
    }
  }
  return kept;
}

absl::StatusOr<Program> MakeProgram(const Plan& plan, const RankKernels& kernels,
                                    const std::vector<Edge>* kept) {
  Program program;
  program.plan = &plan;
  program.rank = kernels.rank;
  program.rank_plan = &plan.ForRank(kernels.rank);
  const std::vector<Node>& nodes = plan.graph.nodes();
  program.index_of.assign(nodes.size(), -1);
  std::string wrong;
  const auto complain = [&](const auto&... parts) { absl::StrAppend(&wrong, "\n  ", parts...); };

  std::vector<std::vector<int32_t>> lanes;
  for (size_t l = 0; l < program.rank_plan->lanes.size(); ++l) {
    lanes.emplace_back();
    for (NodeId id : program.rank_plan->lanes[l].order) {
      if (program.index_of[id] != -1) {
        complain(nodes[id].name, " is in the lanes twice");
        continue;
      }
      if ((nodes[id].async == AsyncRole::kDone) != (l > 0)) {
        complain(nodes[id].name, l == 0 ? " is a done half, but in the issue lane"
                                        : " is in another lane than 0, but no done half");
      }
      program.index_of[id] = static_cast<int32_t>(program.nodes.size());
      lanes.back().push_back(program.index_of[id]);
      ProgramNode node;
      node.id = id;
      node.lane = static_cast<int32_t>(l);
      node.role = nodes[id].async;
      program.nodes.push_back(std::move(node));
    }
    if (l == 0) program.issue_count = static_cast<int32_t>(program.nodes.size());
  }
  std::vector<IndexEdge> edges;
  for (ProgramNode& node : program.nodes) {
    const Node& of_graph = nodes[node.id];
    if (node.role != AsyncRole::kNone) {
      node.partner = of_graph.partner < 0 ? -1 : program.index_of[of_graph.partner];
      if (node.partner == -1) complain(of_graph.name, " lacks its other half");
    }
    if (node.role == AsyncRole::kStart && node.partner != -1) {
      edges.push_back({program.index_of[node.id], node.partner});
    }
    if (node.role != AsyncRole::kDone && (node.id >= static_cast<int>(kernels.by_node.size()) ||
                                          kernels.by_node[node.id] == nullptr)) {
      complain(of_graph.name, " has no kernel");
    }
  }
  for (const Edge& e : kept != nullptr ? *kept : program.rank_plan->edges) {
    if (program.index_of[e.from] == -1 || program.index_of[e.to] == -1) {
      complain("the edge ", nodes[e.from].name, " -> ", nodes[e.to].name,
               " leads to a node that is in no lane");
      continue;
    }
    edges.push_back({program.index_of[e.from], program.index_of[e.to]});
  }
  const int32_t count = static_cast<int32_t>(program.nodes.size());
  std::vector<int32_t> stuck;
  const std::vector<int32_t> order = TopologicalOrder(count, edges, stuck);
  for (int32_t i : stuck) complain(nodes[program.nodes[i].id].name, " is on a cycle or behind one");
  if (!wrong.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("plan ", plan.name, " cannot be run by rank ", program.rank, ":", wrong));
  }
  for (const IndexEdge& e : DropImpliedEdges(count, edges, order, lanes)) {
    program.nodes[e.first].successors.push_back(e.second);
    program.nodes[e.second].predecessors.push_back(e.first);
  }
  return program;
}

}  // namespace millrace
