#include "pipelines/runner/ranks.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>

#include "dist/in_process.h"
#include "graph/base/status.h"
#include "models/allocator.h"

namespace millrace {

absl::StatusOr<std::vector<std::shared_ptr<RankArenas>>> AllocateArenas(
    const std::vector<const Plan*>& plans, BackEnd* back_end) {
  std::vector<std::shared_ptr<RankArenas>> all;
  for (int r = 0; r < plans[0]->world_size; ++r) {
    RankArenas::Options options;
    if (back_end != nullptr) {
      ASSIGN_OR_RETURN(options.device, back_end->OpenDevice(r));
    }
    ASSIGN_OR_RETURN(auto arenas, RankArenas::Allocate(plans, r, options));
    all.push_back(std::move(arenas));
  }
  return all;
}

absl::StatusOr<std::shared_ptr<ComputeThreads>> MakeComputeThreads(int ranks,
                                                                   int threads_per_rank) {
  std::vector<int> ids;
  for (int r = 0; r < ranks; ++r) ids.push_back(r);
  // The OpenMP team's size is a setting of each thread.
  return ComputeThreads::Create(ids,
                                [threads_per_rank](int) { at::set_num_threads(threads_per_rank); });
}

absl::StatusOr<std::unique_ptr<Ranks>> Ranks::Create(const RanksOptions& options) {
  const Plan& plan = *options.plan;
  std::unique_ptr<Ranks> ranks(new Ranks);
  for (int r = 0; r < plan.world_size; ++r) {
    ASSIGN_OR_RETURN(RankBuffers buffers, RankBuffers::Create(plan, r, options.arenas[r]));
    ranks->buffers_.push_back(std::move(buffers));
    auto context = std::make_unique<RankContext>();
    context->rank = r;
    context->batches = options.batches;
    context->spec = options.spec;
    context->optimizer = options.optimizer;
    context->threads = options.threads_per_rank;
    if (!options.storage.empty()) context->storage = options.storage[r];
    context->device = options.arenas[r]->device().get();
    if (options.model != nullptr) {
      ranks->models_.push_back(std::make_unique<ModelRuntime>(*options.model, *options.spec));
      context->model = ranks->models_.back().get();
    }
    ranks->contexts_.push_back(std::move(context));
  }
  for (const auto& [name, size] : plan.graph.groups()) {
    std::vector<std::unique_ptr<Communicator>> members;
    if (options.back_end != nullptr) {
      ASSIGN_OR_RETURN(members, options.back_end->MakeGroup(name, size));
    } else {
      InProcessOptions group;
      group.name = name;
      group.execution = options.reference ? InProcessOptions::Execution::kInline
                                          : InProcessOptions::Execution::kThreaded;
      ASSIGN_OR_RETURN(members, InProcessGroup::Create(size, group));
    }
    for (int r = 0; r < size; ++r) ranks->contexts_[r]->groups[name] = members[r].get();
    ranks->groups_.push_back(std::move(members));
  }
  std::vector<RankKernels> kernels;
  for (int r = 0; r < plan.world_size; ++r) {
    KernelFactory factory = RegistryFactory(ranks->contexts_[r].get());
    if (options.lanes != nullptr) factory = OnLanes(std::move(factory), options.lanes);
    ASSIGN_OR_RETURN(RankKernels made, MakeKernels(plan, r, ranks->buffers_[r], factory));
    kernels.push_back(std::move(made));
  }
  ExecutorOptions executor;
  executor.threads = options.threads;
  executor.thread_start = [threads = options.threads_per_rank](int) {
    at::set_num_threads(threads);
  };
  executor.stuck_seconds = options.stuck_seconds;
  executor.recorder = options.recorder;
  executor.capture = options.capture;
  for (int r = 0; r < plan.world_size; ++r) {
    if (ranks->contexts_[r]->device != nullptr) {
      executor.devices[r] = ranks->contexts_[r]->device;
    }
  }
  Ranks* self = ranks.get();
  executor.abort_communication = [self](const absl::Status& why) {
    for (auto& members : self->groups_) members[0]->Abort(why);
  };
  executor.describe_communication = [self] {
    std::string text;
    for (const auto& members : self->groups_) text += members[0]->Describe();
    return text;
  };
  ASSIGN_OR_RETURN(ranks->executor_,
                   options.reference
                       ? MakeReferenceExecutor(plan, std::move(kernels), std::move(executor))
                       : MakeFlowGraphExecutor(plan, std::move(kernels), std::move(executor)));
  return ranks;
}

absl::Status Ranks::RunStep(int64_t step, const StepScalars& scalars) {
  for (const auto& model : models_) model->ForgetOverflow();
  return executor_->RunStep(StepContext{step, &scalars});
}

std::vector<const RankBuffers*> Ranks::all_buffers() const {
  std::vector<const RankBuffers*> all;
  for (const RankBuffers& b : buffers_) all.push_back(&b);
  return all;
}

int64_t Ranks::unplanned_allocations() const {
  int64_t n = 0;
  for (const auto& model : models_) n += model->mismatches();
  return n;
}

int64_t Ranks::unplanned_bytes() const {
  int64_t n = 0;
  for (const auto& model : models_) n = std::max(n, model->unplanned_bytes());
  return n;
}

}  // namespace millrace
