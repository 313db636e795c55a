#include "graph/plan/cost_model.h"

#include <algorithm>
#include <optional>

#include "graph/plan/cost_table.h"
#include "graph/plan/link_cost.h"

namespace millrace {
namespace {

double ComputeSeconds(const Node& node, const Device& device) {
  const double arithmetic =
      static_cast<double>(node.flops) / (device.flops_per_second() * device.flops_efficiency());
  const double memory = static_cast<double>(node.memory_bytes) / device.memory_bytes_per_second();
  if (node.operators == 0) return std::max(arithmetic, memory);
  return static_cast<double>(node.operators) * device.seconds_per_operator() + arithmetic + memory;
}

}  // namespace

std::vector<double> NodeSeconds(const Graph& graph, const Machine& machine,
                                const CostTable* table) {
  const Device& device = machine.device();
  const LinkCost links(machine);
  std::optional<CostLookup> measured;
  if (table != nullptr) measured.emplace(*table);
  std::vector<double> seconds;
  seconds.reserve(graph.nodes().size());
  for (const Node& node : graph.nodes()) {
    if (node.async == AsyncRole::kStart) {
      seconds.push_back(table != nullptr && table->has_seconds_per_start()
                            ? table->seconds_per_start()
                            : device.seconds_per_node());
      continue;
    }
    // Of a split pair, the start pays for the launch.
    double own = node.async == AsyncRole::kDone ? 0 : device.seconds_per_node();
    own += node.is_collective
               ? links.Seconds(node.collective, graph.group_size(node.collective.group))
               : ComputeSeconds(node, device);
    seconds.push_back(measured ? measured->Seconds(graph, node, own) : own);
  }
  return seconds;
}

}  // namespace millrace
