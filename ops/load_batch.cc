// load_batch: copies the next micro-batch of this rank, prepared beforehand by the loader's threads, into the
// device tier.
//
//   node { name: "load_batch/0" op: "load_batch" output: "images/0" output: "labels/0" attr { name: "micro_batch" i: 0 } }
#include "graph/base/status.h"
#include "ops/kernel_registry.h"

namespace millrace {
namespace {

class LoadBatch final : public Kernel {
 public:
  LoadBatch(BatchSource* source, int rank, int64_t micro_batch, float* images, int64_t* labels)
      : source_(source), rank_(rank), micro_batch_(micro_batch), images_(images), labels_(labels) {}
  absl::Status Run(const StepContext&) override {
    return source_->Next(rank_, micro_batch_, images_, labels_);
  }

 private:
  BatchSource* const source_;
  const int rank_;
  const int64_t micro_batch_;
  float* const images_;
  int64_t* const labels_;
};

REGISTER_KERNEL(load_batch, [](const KernelArgs& args) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  if (args.rank.batches == nullptr) return absl::FailedPreconditionError("no data source");
  return std::make_unique<LoadBatch>(args.rank.batches, args.rank.rank,
                                     IntAttr(args.node(), "micro_batch", 0), args.Out<float>(0),
                                     args.Out<int64_t>(1));
});

}  // namespace
}  // namespace millrace
