#include "graph/runtime/lane_workers.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"

namespace millrace {

class LaneWorkers::Worker {
 public:
  Worker() : thread_([this] { Run(); }) {}
  ~Worker() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }
  void Post(std::function<void()> job) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    wake_.notify_one();
  }

 private:
  void Run() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return ended_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      std::function<void()> job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
      job = nullptr;
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool ended_ = false;
  std::thread thread_;  // last: it uses the others
};

LaneWorkers::LaneWorkers() = default;
LaneWorkers::~LaneWorkers() = default;

std::shared_ptr<LaneWorkers> LaneWorkers::Create(const std::vector<const Plan*>& plans,
                                                 bool devices) {
  std::shared_ptr<LaneWorkers> workers(new LaneWorkers);
  for (const Plan* plan : plans) {
    for (const RankPlan& rank_plan : plan->rank_plans) {
      for (const Lane& lane : rank_plan.lanes) {
        if (lane.kind == LaneKind::kCompute || lane.kind == LaneKind::kComm) continue;
        if (devices && InStream(lane.kind)) continue;
        for (int rank : rank_plan.ranks) {
          std::unique_ptr<Worker>& worker = workers->workers_[{rank, lane.kind}];
          if (worker == nullptr) worker = std::make_unique<Worker>();
        }
      }
    }
  }
  return workers;
}

void LaneWorkers::Post(int rank, LaneKind kind, std::function<void()> job) {
  workers_.at({rank, kind})->Post(std::move(job));
}

namespace {

class OnLane final : public Kernel {
 public:
  OnLane(std::unique_ptr<Kernel> kernel, std::shared_ptr<LaneWorkers> workers, int rank,
         LaneKind kind)
      : kernel_(std::move(kernel)), workers_(std::move(workers)), rank_(rank), kind_(kind) {}

  bool asynchronous() const override { return true; }
  void Start(const StepContext& context, std::function<void(absl::Status)> done) override {
    workers_->Post(rank_, kind_, [kernel = kernel_.get(), context, done = std::move(done)] {
      absl::Status status;
      try {
        status = kernel->Run(context);
      } catch (const std::exception& e) {
        status = absl::InternalError(absl::StrCat("exception: ", e.what()));
      } catch (...) {
        status = absl::InternalError("exception of unknown type");
      }
      done(status);
    });
  }

 private:
  const std::unique_ptr<Kernel> kernel_;
  const std::shared_ptr<LaneWorkers> workers_;
  const int rank_;
  const LaneKind kind_;
};

}  // namespace

KernelFactory OnLanes(KernelFactory factory, std::shared_ptr<LaneWorkers> workers) {
  return [factory = std::move(factory), workers = std::move(workers)](
             const Plan& plan, int rank, NodeId node,
             const RankBuffers& buffers) -> absl::StatusOr<std::unique_ptr<Kernel>> {
    ASSIGN_OR_RETURN(std::unique_ptr<Kernel> kernel, factory(plan, rank, node, buffers));
    const LaneKind kind = LaneKindOf(plan.graph, node);
    if (plan.graph.nodes()[node].async != AsyncRole::kStart || kernel->asynchronous() ||
        !workers->Has(rank, kind)) {
      return kernel;
    }
    return std::unique_ptr<Kernel>(
        std::make_unique<OnLane>(std::move(kernel), workers, rank, kind));
  };
}

}  // namespace millrace
