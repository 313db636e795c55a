#include "graph/plan/cost_model.h"

#include <algorithm>
#include <optional>

#include "graph/ir/lane_kind.h"
#include "graph/plan/cost_table.h"
#include "graph/plan/link_cost.h"

namespace millrace {
namespace {

double ComputeSeconds(const Node& node, const DeviceSpec& device) {
  const double arithmetic =
      static_cast<double>(node.flops) / (device.flops_per_second() * device.flops_efficiency());
  const double memory = static_cast<double>(node.memory_bytes) / device.memory_bytes_per_second();
  if (node.operators == 0) return std::max(arithmetic, memory);
  return static_cast<double>(node.operators) * device.seconds_per_operator() + arithmetic + memory;
}

// Of what another engine than the rank's cores does, communication apart.
double HostSeconds(const Graph& graph, NodeId id, LaneKind kind, const Host& host) {
  const Node& node = graph.nodes()[id];
  const Node& begin = node.async == AsyncRole::kDone ? graph.nodes()[node.partner] : node;
  const auto bytes = static_cast<double>(BytesMoved(graph, begin));
  const double fixed = host.seconds_per_operation();
  switch (kind) {
    case LaneKind::kHostToDevice:
      return fixed + bytes / host.host_to_device_bytes_per_second();
    case LaneKind::kDeviceToHost:
      return fixed + bytes / host.device_to_host_bytes_per_second();
    case LaneKind::kStorage: {
      const bool reads =
          graph.buffers()[graph.values()[begin.inputs[0]].buffer].tier == Tier::kStorage;
      return fixed + bytes / (reads ? host.storage_read_bytes_per_second()
                                    : host.storage_write_bytes_per_second());
    }
    default:
      return fixed + static_cast<double>(node.memory_bytes) / host.memory_bytes_per_second();
  }
}

}  // namespace

std::vector<double> NodeSeconds(const Graph& graph, const Machine& machine,
                                const CostTable* table) {
  const DeviceSpec& device = machine.device();
  const LinkCost links(machine);
  std::optional<CostLookup> measured;
  if (table != nullptr) measured.emplace(*table);
  std::vector<double> seconds;
  seconds.reserve(graph.nodes().size());
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.nodes()[n];
    if (node.async == AsyncRole::kStart) {
      seconds.push_back(table != nullptr && table->has_seconds_per_start()
                            ? table->seconds_per_start()
                            : device.seconds_per_node());
      continue;
    }
    // Of a split pair, the start pays for the launch.
    double own = node.async == AsyncRole::kDone ? 0 : device.seconds_per_node();
    const LaneKind kind = LaneKindOf(graph, static_cast<NodeId>(n));
    own += kind == LaneKind::kComm
               ? links.Seconds(node.collective, graph.group_size(node.collective.group))
           : kind == LaneKind::kCompute
               ? ComputeSeconds(node, device)
               : HostSeconds(graph, static_cast<NodeId>(n), kind, machine.host());
    seconds.push_back(measured ? measured->Seconds(graph, static_cast<NodeId>(n), own) : own);
  }
  return seconds;
}

}  // namespace millrace
