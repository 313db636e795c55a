// Runs a plan's steps on the ranks of this process. Two executors, one contract:
//
//   MakeFlowGraphExecutor   one compute thread and one oneTBB flow graph per rank, built once, re-triggered every
//                           step; what training uses.
//   MakeReferenceExecutor   one thread walks all ranks; what the other is compared with, and what to step
//                           through in a debugger.
//
//   std::vector<RankKernels> kernels;                          // of the ranks of this process
//   ASSIGN_OR_RETURN(auto executor, MakeFlowGraphExecutor(plan, std::move(kernels), options));
//   for (int64_t step = 0; step < n; ++step) {
//     absl::Status status = executor->RunStep({step, &batch});
//     if (!status.ok()) ...                                    // rebuild the communicators, then go on
//   }
//
// A step that fails. The first error wins: its Status comes back with node, rank and phase in front ("node
// backward/3 (backward) on rank 1, run: ..."). The nodes not yet begun do nothing, abort_communication is called
// so that what was started ends here and on peers, and when all has come to rest RunStep returns. The next
// RunStep starts afresh; the contents of the buffers are then up to the caller.
//
// A step that is stuck: no node has finished on any rank for stuck_seconds. RunStep returns kDeadlineExceeded; the
// message says for every rank what it waits for and who has not joined. A kernel that runs longer than
// stuck_seconds counts as stuck. What does not come to rest within drain_seconds is given up: operations
// whose `done` never came are taken as ended, and a compute kernel that never returns cannot be killed - then
// RunStep still returns (the message says so), `at_rest` is false, RunStep refuses to run until the kernel
// has returned, and the destructor waits for it: a caller who wants to exit then has to use std::_Exit.
//
// Threads: RunStep by one thread at a time.
#ifndef MILLRACE_GRAPH_RUNTIME_EXECUTOR_H_
#define MILLRACE_GRAPH_RUNTIME_EXECUTOR_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "graph/plan/plan.h"
#include "graph/runtime/compute_threads.h"
#include "graph/runtime/device.h"
#include "graph/runtime/kernel.h"
#include "graph/trace/clock.h"
#include "graph/trace/recorder.h"

namespace millrace {

struct ExecutorOptions {
  // Called in every compute thread before anything else (torch's thread count, processor affinity). Ignored
  // when `threads` is given; the reference executor calls it for all its ranks in its caller's thread.
  std::function<void(int rank)> thread_start;

  // The threads to run on. Executors of the same ranks (training, evaluation) share them, since OpenMP keeps a
  // team of threads per calling thread. Null: threads of its own.
  std::shared_ptr<ComputeThreads> threads;

  double stuck_seconds = 60;
  double drain_seconds = 10;
  const Clock* clock = nullptr;  // of both deadlines; null: Clock::Real()

  // Ends all started and later communication of this process' ranks with the given error; their `done`s are
  // called. From RunStep's thread, once per failed step.
  std::function<void(const absl::Status&)> abort_communication;
  // What the communicators know, appended to the report of a stuck step.
  std::function<std::string()> describe_communication;

  TraceRecorder* recorder = nullptr;  // outlives the executor

  // The ranks' devices, which outlive the executor; a rank without one runs on the host. Not for the reference executor.
  std::map<int, Device*> devices;
  // Devices: runs of nodes whose kernels allow it are captured and launched as one (device_issuer.h).
  bool capture = false;
};

// What it took the issue threads to put nodes into streams, over all steps and ranks.
struct IssueCost {
  int64_t ticks = 0;  // graph/trace/ticks.h
  int64_t nodes = 0;
  int64_t captured_runs = 0;  // of one step
};

class Executor {
 public:
  virtual ~Executor() = default;
  virtual absl::Status RunStep(const StepContext& context) = 0;
  virtual IssueCost issue_cost() const { return {}; }
  // False while a kernel of a step that was given up still runs.
  virtual bool at_rest() const { return true; }
};

// `plan` outlives the executor. `kernels` has the ranks that this process runs.
absl::StatusOr<std::unique_ptr<Executor>> MakeFlowGraphExecutor(const Plan& plan,
                                                                std::vector<RankKernels> kernels,
                                                                ExecutorOptions options);
absl::StatusOr<std::unique_ptr<Executor>> MakeReferenceExecutor(const Plan& plan,
                                                                std::vector<RankKernels> kernels,
                                                                ExecutorOptions options);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_EXECUTOR_H_
