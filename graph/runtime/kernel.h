// What a node does when it runs. There is one Kernel object per (rank, node), made once before the first step:
// everything that can be looked up (pointers into the arenas, attributes, communicators) is looked up then,
// so that a step allocates nothing and finds nothing by name.
//
//   class AddKernel : public Kernel {
//    public:
//     absl::Status Run(const StepContext&) override { Add(a_, b_, out_, n_); return absl::OkStatus(); }
//   };
//
//   class AllGatherKernel : public Kernel {                     // of the start half; the done half has none
//    public:
//     bool asynchronous() const override { return true; }
//     void Start(const StepContext&, std::function<void(absl::Status)> done) override {
//       communicator_->Start(call_, std::move(done));
//     }
//   };
//
// Where the rank has a device (device.h), nodes of its lanes are issued to its streams (Issue), all others run as here.
//
// Which method is called: on an asynchronous kernel Start, on any other Run. When the node is a start half
// (AsyncRole::kStart), its done half ends when `done` has been called; when it is not split, the rank's
// compute thread waits for `done`. A start half may have a synchronous kernel: then the work is done in place.
#ifndef MILLRACE_GRAPH_RUNTIME_KERNEL_H_
#define MILLRACE_GRAPH_RUNTIME_KERNEL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "graph/plan/plan.h"
#include "graph/runtime/device.h"

namespace millrace {

class RankBuffers;

struct StepContext {
  int64_t step = 0;
  const void* user = nullptr;  // whatever the caller of RunStep and his kernels agree on
};

class Kernel {
 public:
  virtual ~Kernel() = default;

  // On the rank's compute thread. May throw: the executor turns it into a Status.
  virtual absl::Status Run(const StepContext& context);

  // On the rank's compute thread; never blocks. `done` is called exactly once, from any thread, also from
  // within Start; it is cheap and never blocks. Later calls are ignored, also those of a step that has been
  // given up, as long as the executor lives.
  virtual void Start(const StepContext& context, std::function<void(absl::Status)> done);

  virtual bool asynchronous() const { return false; }

  // For nodes in a stream of a device: puts the work at the end of the stream and returns. On the rank's issue thread.
  // The default gives the device the CPU's way (Start when asynchronous, else Run) as one piece of work, which only
  // emulated devices can run.
  virtual absl::Status Issue(const StepContext& context, const DeviceStream& stream);
  // For nodes in a stream of a device, in every step before the first Issue, also where Issue was kept: the host's
  // part of what changes from step to step, for example the learning rate, into memory that the device reads in the
  // step. On the rank's issue thread, while the device is idle.
  virtual absl::Status BeginStep(const StepContext& context) { return absl::OkStatus(); }
  // Whether one Issue, kept, does the same in every later step: it takes nothing from the context, and nothing else
  // that changes from step to step but what lies in the values it reads.
  virtual bool capturable() const { return false; }
  // A capturable kernel that is kept even when it has no neighbours: it leaves something on the host to another one (a
  // forward its tape), so that both have to be kept, or neither.
  virtual bool capture_alone() const { return false; }
};

using KernelFactory = std::function<absl::StatusOr<std::unique_ptr<Kernel>>(
    const Plan& plan, int rank, NodeId node, const RankBuffers& buffers)>;

// The kernels of one rank, by NodeId. Null for done halves and for nodes that the rank does not run.
struct RankKernels {
  int rank = 0;
  std::vector<std::unique_ptr<Kernel>> by_node;
};

// Calls the factory for every node of the rank but done halves. All nodes whose kernel could not be made
// are named in the one error.
absl::StatusOr<RankKernels> MakeKernels(const Plan& plan, int rank, const RankBuffers& buffers,
                                        const KernelFactory& factory);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_KERNEL_H_
