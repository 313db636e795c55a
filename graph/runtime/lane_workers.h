// The engines of a rank that are threads of this process: one per kind of lane - host_compute, host_to_device,
// device_to_host, storage - each working off what was started on it, one after another. A kernel knows nothing of
// this: where its node is the start half of such a lane's operation, the factory wraps it, so that Start hands it over
// and the worker runs it and calls `done`.
//
//   auto workers = LaneWorkers::Create({&train_plan, &evaluate_plan});
//   KernelFactory factory = OnLanes(RegistryFactory(&context), workers);   // one executor's kernels
//
// Made for the lanes that the plans have; a plan without such lanes makes no threads. Thread-safe. Every kernel that was
// wrapped must outlive the operations in flight: end the step first.
#ifndef MILLRACE_GRAPH_RUNTIME_LANE_WORKERS_H_
#define MILLRACE_GRAPH_RUNTIME_LANE_WORKERS_H_

#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "graph/plan/plan.h"
#include "graph/runtime/kernel.h"

namespace millrace {

class LaneWorkers {
 public:
  // `devices`: the ranks have devices, whose streams copy; only the host's own lanes get workers.
  static std::shared_ptr<LaneWorkers> Create(const std::vector<const Plan*>& plans,
                                             bool devices = false);
  ~LaneWorkers();  // works off what was posted
  LaneWorkers(const LaneWorkers&) = delete;
  LaneWorkers& operator=(const LaneWorkers&) = delete;

  bool Has(int rank, LaneKind kind) const { return workers_.count({rank, kind}) > 0; }
  // `job` must not throw. Never blocks.
  void Post(int rank, LaneKind kind, std::function<void()> job);
  int threads() const { return static_cast<int>(workers_.size()); }

 private:
  class Worker;
  LaneWorkers();
  std::map<std::pair<int, LaneKind>, std::unique_ptr<Worker>> workers_;
};

// `factory`'s kernels, those of the workers' lanes running there.
KernelFactory OnLanes(KernelFactory factory, std::shared_ptr<LaneWorkers> workers);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_LANE_WORKERS_H_
