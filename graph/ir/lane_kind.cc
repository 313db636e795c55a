#include "graph/ir/lane_kind.h"

namespace millrace {
namespace {

struct Tiers {
  bool device = false, host = false, storage = false;
};

Tiers TiersOf(const Graph& graph, const std::vector<ValueId>& values) {
  Tiers tiers;
  for (ValueId v : values) {
    switch (graph.buffers()[graph.values()[v].buffer].tier) {
      case Tier::kDevice:
        tiers.device = true;
        break;
      case Tier::kPinned:
      case Tier::kHost:
        tiers.host = true;
        break;
      case Tier::kStorage:
        tiers.storage = true;
        break;
    }
  }
  return tiers;
}

}  // namespace

absl::string_view Name(LaneKind kind) {
  switch (kind) {
    case LaneKind::kCompute:
      return "compute";
    case LaneKind::kComm:
      return "comm";
    case LaneKind::kHostToDevice:
      return "host_to_device";
    case LaneKind::kDeviceToHost:
      return "device_to_host";
    case LaneKind::kHostCompute:
      return "host_compute";
    case LaneKind::kStorage:
      return "storage";
  }
  return "?";
}

LaneKind LaneKindOf(const Graph& graph, NodeId id) {
  const Node& node = graph.nodes()[id];
  if (node.is_collective) return LaneKind::kComm;
  const bool paired = node.partner >= 0 && node.partner < static_cast<NodeId>(graph.nodes().size());
  const Node& other = paired ? graph.nodes()[node.partner] : node;
  const Tiers in = TiersOf(graph, node.async == AsyncRole::kDone ? other.inputs : node.inputs);
  const Tiers out = TiersOf(graph, node.async == AsyncRole::kStart ? other.outputs : node.outputs);
  if (in.storage || out.storage) return LaneKind::kStorage;
  if (!in.host && !out.host) return LaneKind::kCompute;
  if (node.op != "copy") return LaneKind::kHostCompute;
  if (out.device) return LaneKind::kHostToDevice;
  return in.device ? LaneKind::kDeviceToHost : LaneKind::kHostCompute;
}

int64_t BytesMoved(const Graph& graph, const Node& copy) {
  int64_t bytes = 0;
  for (ValueId v : copy.inputs) bytes += graph.values()[v].bytes();
  return bytes;
}

}  // namespace millrace
