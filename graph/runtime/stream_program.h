// A rank's program on a device with streams: which node is issued to which stream, what a stream waits for on the
// device, and where the host has to wait for the device.
//
//   plan        backward/3 (compute)  ->  reduce_scatter.start, .done (comm:data)  ->  adamw (compute)
//   issued      compute: backward/3, record e1     comm:data: wait e1, reduce_scatter, record e2
//               compute: wait e2, adamw            - and the host has waited for nothing
//
// A node of the plan begins when all its predecessors have ended. Between two nodes of the device that is the
// order of a stream, or an event; a node of the host that follows one of the device gets a gate, which opens when the
// completion thread has seen the events; a node of the device that follows one of the host is issued when that
// one has ended. A start half ends when it has been issued, so what follows it follows what it itself has waited for.
//
// Waits that follow from others are left out: what a stream has waited for it knows from then on, and with it all
// that this had waited for (vector clocks over the streams).
#ifndef MILLRACE_GRAPH_RUNTIME_STREAM_PROGRAM_H_
#define MILLRACE_GRAPH_RUNTIME_STREAM_PROGRAM_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/runtime/program.h"

namespace millrace {

// A point in a stream: the end of its op number `seq`, counted from 0 in every step.
struct StreamPoint {
  int32_t stream = -1;
  int32_t seq = -1;
  bool operator==(const StreamPoint& o) const { return stream == o.stream && seq == o.seq; }
};

struct StreamNode {
  int32_t stream = -1;  // -1: the host's
  int32_t seq = -1;     // of device nodes, done halves included: that of what they end
  // Device nodes but done halves: what their stream waits for first. Host nodes: what opens their gate; empty: no gate.
  std::vector<StreamPoint> waits;
  bool awaited = false;  // another stream or the host waits for its end
};

struct StreamProgram {
  std::vector<std::string> streams;  // "compute", "comm:data", "host_to_device", ...
  std::vector<StreamNode> nodes;     // as Program::nodes
  std::vector<int32_t>
      issue_order;  // device nodes but done halves, in the order in which they are issued
  std::vector<std::vector<int32_t>> ops;  // per stream: the nodes of issue_order in it, by seq
  // What the flow graph has to know: issued before, or for host nodes ended before. Neighbours in issue_order, and
  // every edge that touches a host node. Done halves of the device are in none.
  std::vector<std::pair<int32_t, int32_t>> edges;

  bool on_device(int32_t i) const { return nodes[i].stream >= 0; }
};

// kInvalidArgument when the plan's order of the issue lane contradicts its edges, or a done half of the device would
// have to wait for the host.
absl::StatusOr<StreamProgram> MakeStreamProgram(const Program& program);

// Runs of nodes of one stream that may be captured as one: neighbours in issue_order, only the first of which waits, only
// the last of which is awaited. `capturable`: per node. Runs of a single node are left out, but for those that are to be
// captured `alone` (per node; empty: none). Each is (first place, one past the last place) in issue_order.
std::vector<std::pair<int32_t, int32_t>> CapturableRuns(const StreamProgram& program,
                                                        const std::vector<bool>& capturable,
                                                        const std::vector<bool>& alone = {});

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_STREAM_PROGRAM_H_
