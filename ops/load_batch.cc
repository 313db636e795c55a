// load_batch: copies the next micro-batch of this rank, prepared beforehand by the loader's threads, into the
// device tier.
//
//   node { name: "load_batch/0" op: "load_batch" output: "images/0" output: "labels/0" attr { name: "micro_batch" i: 0 } }
#include <utility>
#include <vector>

#include "graph/base/status.h"
#include "ops/kernel_registry.h"

namespace millrace {
namespace {

class LoadBatch final : public Kernel {
 public:
  LoadBatch(BatchSource* source, int rank, int64_t micro_batch, std::vector<void*> tensors)
      : source_(source), rank_(rank), micro_batch_(micro_batch), tensors_(std::move(tensors)) {}
  absl::Status Run(const StepContext&) override {
    return source_->Next(rank_, micro_batch_, tensors_);
  }

 private:
  BatchSource* const source_;
  const int rank_;
  const int64_t micro_batch_;
  const std::vector<void*> tensors_;
};

REGISTER_KERNEL(load_batch, [](const KernelArgs& args) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  if (args.rank.batches == nullptr) return absl::FailedPreconditionError("no data source");
  std::vector<void*> tensors;
  for (int i = 0; i < args.outputs(); ++i) tensors.push_back(args.Out<void>(i));
  return std::make_unique<LoadBatch>(args.rank.batches, args.rank.rank,
                                     IntAttr(args.node(), "micro_batch", 0), std::move(tensors));
});

}  // namespace
}  // namespace millrace
