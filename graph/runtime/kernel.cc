#include "graph/runtime/kernel.h"

#include <exception>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace millrace {

absl::Status Kernel::Run(const StepContext&) {
  return absl::UnimplementedError("this kernel is asynchronous and has no Run");
}

void Kernel::Start(const StepContext& context, std::function<void(absl::Status)> done) {
  done(Run(context));
}

absl::Status Kernel::Issue(const StepContext& context, const DeviceStream& stream) {
  return stream.device->Enqueue(stream.stream, [this, context](auto done) {
    if (asynchronous()) {
      Start(context, std::move(done));
    } else {
      done(Run(context));
    }
  });
}

absl::StatusOr<RankKernels> MakeKernels(const Plan& plan, int rank, const RankBuffers& buffers,
                                        const KernelFactory& factory) {
  RankKernels kernels;
  kernels.rank = rank;
  kernels.by_node.resize(plan.graph.nodes().size());
  absl::Status first;
  std::string all;
  for (const Lane& lane : plan.ForRank(rank).lanes) {
    for (NodeId id : lane.order) {
      const Node& node = plan.graph.nodes()[id];
      if (node.async == AsyncRole::kDone) continue;
      absl::Status status;
      try {
        absl::StatusOr<std::unique_ptr<Kernel>> kernel = factory(plan, rank, id, buffers);
        status = kernel.status();
        if (kernel.ok() && *kernel == nullptr) status = absl::InternalError("no kernel was made");
        if (status.ok()) kernels.by_node[id] = *std::move(kernel);
      } catch (const std::exception& e) {
        status = absl::InternalError(e.what());
      } catch (...) {
        status = absl::InternalError("an unknown exception");
      }
      if (status.ok()) continue;
      if (first.ok()) first = status;
      absl::StrAppend(&all, all.empty() ? "" : "\n", "kernel of node ", node.name, " (", node.op,
                      ") on rank ", rank, ": ", status.message());
    }
  }
  if (!first.ok()) return absl::Status(first.code(), all);
  return kernels;
}

}  // namespace millrace
