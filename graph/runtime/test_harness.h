// What the tests and the benchmark of the executors share: plans drawn with a few calls, and kernels that compute
// numbers, note the order in which they ran and fail on demand. Not part of the product.
//
//   PlanSketch sketch;
//   NodeId a = sketch.Compute("a", {});
//   NodeId g = sketch.Async("gather", {a});                  // the done half; its start is gather.start
//   NodeId b = sketch.Compute("b", {g});
//   Plan plan = sketch.Build(/*world=*/2);
//   Harness harness(plan);
//   auto executor = MakeFlowGraphExecutor(plan, harness.Kernels(), harness.Options());
#ifndef MILLRACE_GRAPH_RUNTIME_TEST_HARNESS_H_
#define MILLRACE_GRAPH_RUNTIME_TEST_HARNESS_H_

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "graph/runtime/buffers.h"
#include "graph/runtime/executor.h"

namespace millrace {

// Draws a graph and a plan in which every node stands in the lanes in the order in which it was added.
class PlanSketch {
 public:
  PlanSketch() : builder_("sketch") {}
  NodeId Compute(const std::string& name, const std::vector<NodeId>& after);
  // Returns the done half.
  NodeId Async(const std::string& name, const std::vector<NodeId>& after);
  // A collective that is not split.
  NodeId Blocking(const std::string& name, const std::vector<NodeId>& after);
  // On the host lane, where there is a device; AsyncHost returns the done half.
  NodeId Host(const std::string& name, const std::vector<NodeId>& after);
  NodeId AsyncHost(const std::string& name, const std::vector<NodeId>& after);
  // Without lane edges only the data edges order the nodes.
  Plan Build(int world, bool lane_edges = true) &&;

 private:
  ValueId NewValue(const std::string& name, Tier tier = Tier::kDevice);
  NodeId Add(const std::string& name, const std::vector<NodeId>& after, Tier tier);
  NodeId Split(NodeId start);
  std::vector<ValueId> Outputs(const std::vector<NodeId>& nodes) const;

  GraphBuilder builder_;
  std::vector<NodeId> issue_;
  std::vector<NodeId> done_, host_done_;
  std::map<NodeId, ValueId> output_;
};

// A seeded random graph of `nodes` nodes, about a third of them collectives; with `host`, a fifth on the host lane.
Plan RandomPlan(uint64_t seed, int nodes, int world, bool lane_edges, bool host = false);

// A barrier per node: the last member to come computes and completes for all.
class FakeGroup {
 public:
  using Done = std::function<void(absl::Status)>;
  struct Member {
    const int64_t* send = nullptr;
    int64_t* recv = nullptr;
    Done done;
  };
  // With `outside`, completions are called by a thread of the group, otherwise by the last member.
  FakeGroup(int size, bool outside);
  ~FakeGroup();
  void Join(NodeId node, Member member);
  void Abort(const absl::Status& why);
  void Rebuild();  // after an abort

 private:
  void Deliver(std::vector<Member> members, const absl::Status& status);
  void Serve();

  const int size_;
  const bool outside_;
  std::mutex mutex_;
  std::condition_variable wake_;
  absl::Status broken_;
  std::map<NodeId, std::vector<Member>> waiting_;
  std::deque<std::pair<Done, absl::Status>> outbox_;
  bool stop_ = false;
  std::thread thread_;
};

enum class Fault {
  kNone,
  kStatus,         // Run or Start reports an error
  kThrow,          // Run or Start throws
  kThrowUnknown,   // ... something that is no std::exception
  kDoneThenThrow,  // Start calls done, then throws
  kDoneTwice,      // Start calls done with an error, twice
  kLateDone,       // the error comes from another thread, later
  kNeverJoins,     // Start does nothing
  kHangs,          // Run returns only after `release_hang`
};

class Harness {
 public:
  static constexpr int kNumbers = 4;  // int64 in a value

  explicit Harness(const Plan& plan, bool outside = false);
  ~Harness();
  std::vector<RankKernels> Kernels();
  ExecutorOptions Options();

  // For the next steps, until ClearFaults.
  void SetFault(int rank, NodeId node, Fault fault);
  void ClearFaults();

  // All values of all ranks.
  std::vector<std::vector<int64_t>> Numbers() const;
  // "" when every edge of the plan was respected in the last step, else the first that was not. On a device a start half
  // ends when it is issued, before it begins here: its edges say nothing.
  std::string BrokenEdge(bool on_device = false) const;
  // Sequence numbers of the last run of a node; 0 when it did not run.
  uint64_t began(int rank, NodeId node) const { return order_[rank][node].began; }

  static int live_kernels() { return live_kernels_; }
  FakeGroup& group() { return group_; }
  std::atomic<bool> release_hang{false};
  std::vector<std::vector<std::thread::id>> thread_of;  // per rank and node
  std::atomic<int> aborts{0};

 private:
  friend class FakeKernel;
  struct Order {
    std::atomic<uint64_t> began{0};
    std::atomic<uint64_t> ended{0};
  };
  static std::atomic<int> live_kernels_;

  const Plan& plan_;
  FakeGroup group_;
  std::vector<RankBuffers> buffers_;
  std::vector<std::unique_ptr<Order[]>> order_;
  std::atomic<uint64_t> sequence_{0};
  std::map<std::pair<int, NodeId>, Fault> faults_;
  std::vector<std::thread> late_;
  std::mutex mutex_;
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_TEST_HARNESS_H_
