// Which engine of a rank does an operation's work: its cores, the communicators, the copy engines, the host's
// cores or the drives. It follows from what the operation touches - the tiers of its values - so that no node needs
// to say it, and moving a buffer to another tier moves its work.
//
//   collective                        comm
//   touches the storage tier          storage
//   copy, host or pinned to device    host_to_device
//   copy, device to host or pinned    device_to_host
//   anything else on the host         host_compute
//   the rest                          compute
#ifndef MILLRACE_GRAPH_IR_LANE_KIND_H_
#define MILLRACE_GRAPH_IR_LANE_KIND_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "graph/ir/graph.h"

namespace millrace {

enum class LaneKind : uint8_t {
  kCompute,
  kComm,
  kHostToDevice,
  kDeviceToHost,
  kHostCompute,
  kStorage
};

absl::string_view Name(LaneKind kind);  // "compute", "host_to_device"

// Of either half of an asynchronous pair: that of the whole operation.
LaneKind LaneKindOf(const Graph& graph, NodeId node);

// Whether a device with memory and streams of its own does the lane's work in a stream; else the host does it.
inline bool InStream(LaneKind kind) {
  return kind != LaneKind::kHostCompute && kind != LaneKind::kStorage;
}

// Bytes that a copy moves: those of its inputs.
int64_t BytesMoved(const Graph& graph, const Node& copy);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_IR_LANE_KIND_H_
