// Who waits for whom when a step does not go on. Every rank gets a line: what it finished last, what it has
// in flight, what it waits for and which members of that collective have not come:
//
//   rank 0: waits for all_gather/bucket_7.done (all_gather, group data): rank 1 has not started it; rank 1's last
//     finished node is forward/3, now running forward/4. Last finished node: forward/7.
//     In flight: all_gather/bucket_7.start.
//   rank 1: runs forward/4 (forward). Last finished node: forward/3. In flight: nothing.
#ifndef MILLRACE_GRAPH_RUNTIME_STUCK_REPORT_H_
#define MILLRACE_GRAPH_RUNTIME_STUCK_REPORT_H_

#include <string>
#include <vector>

#include "graph/runtime/program.h"

namespace millrace {

enum class NodePhase : uint8_t {
  kNotBegun,
  kRunning,   // the compute thread is in it, or waits for its completion
  kInFlight,  // of a done half: its start has been issued, completion has not come; of a device's node: it is at work on it
  kQueued,    // issued to a device's stream, behind something else
  kEnded,
};

struct RankProgress {
  const Program* program = nullptr;
  std::vector<NodePhase> phase;  // by index into program->nodes
  int32_t last_ended = -1;       // index, -1 when none has ended in this step
  std::vector<int32_t>
      on_device;  // what a device is at work on, a node or a done half for each busy stream
};

// `progress` has the ranks of this process; members of groups that are not among them are said to be
// elsewhere.
std::string WaitForChain(const std::vector<RankProgress>& progress);

// For a collective that this rank has started and that has not completed: members of this process that
// have not started it.
std::vector<int> MissingMembers(const std::vector<RankProgress>& progress, const RankProgress& mine,
                                int32_t index);
// Whether it can still complete although no rank of this process goes on: all their members have started it.
bool MayEndElsewhere(const std::vector<RankProgress>& progress, const RankProgress& mine,
                     int32_t index);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_STUCK_REPORT_H_
