// all_gather, reduce_scatter, all_reduce: hands the node's flat buffers to the rank's communicator of the
// node's group. The k-th call of every member belongs together; names travel along so that a mismatch is
// reported with the nodes' names.
//
//   node { name: "all_reduce/bucket_0/0" op: "all_reduce" input: "grad/bucket_0" output: "grad/bucket_0'" }
//
// Several inputs must be neighbouring slices of one buffer (a bucket filled by several stages): the call
// works on the whole run from the lowest address.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "ops/kernel_registry.h"

namespace millrace {
namespace {

class CollectiveKernel final : public Kernel {
 public:
  CollectiveKernel(Communicator* communicator, Collective call)
      : communicator_(communicator), call_(std::move(call)) {}
  bool asynchronous() const override { return true; }
  void Start(const StepContext&, std::function<void(absl::Status)> done) override {
    communicator_->Start(call_, std::move(done));
  }
  // NCCL's communicators check and note every call (dist/issue_log.h), so it cannot be kept.
  absl::Status Issue(const StepContext& context, const DeviceStream& stream) override {
    if (!communicator_->native_streams()) return Kernel::Issue(context, stream);
    return communicator_->Issue(call_, stream.native());
  }

 private:
  Communicator* const communicator_;
  const Collective call_;
};

CollectiveKind KindOf(CollectiveOp op) {
  switch (op) {
    case CollectiveOp::kAllGather:
      return CollectiveKind::kAllGather;
    case CollectiveOp::kReduceScatter:
      return CollectiveKind::kReduceScatter;
    case CollectiveOp::kAllReduce:
      return CollectiveKind::kAllReduce;
    case CollectiveOp::kBroadcast:
      return CollectiveKind::kBroadcast;
    case CollectiveOp::kAllToAll:
      return CollectiveKind::kAllToAll;
    case CollectiveOp::kBarrier:
      return CollectiveKind::kBarrier;
  }
  return CollectiveKind::kBarrier;
}

absl::StatusOr<std::unique_ptr<Kernel>> Make(const KernelArgs& args) {
  const Node& node = args.node();
  const auto group = args.rank.groups.find(node.collective.group);
  if (group == args.rank.groups.end()) {
    return absl::FailedPreconditionError(
        absl::StrCat("no communicator for group '", node.collective.group, "'"));
  }
  const Device* device = args.rank.device;
  if (device != nullptr && !device->kernels().empty() && !group->second->native_streams()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the communicator of group '", node.collective.group,
                     "' cannot work in the streams of ", device->Describe()));
  }
  Collective call;
  call.kind = KindOf(node.collective.op);
  call.dtype = node.collective.dtype;
  call.count = node.collective.count;
  call.name = node.name;
  char* lowest = nullptr;
  for (int i = 0; i < args.inputs(); ++i) {
    char* p = args.In<char>(i);
    lowest = lowest == nullptr ? p : std::min(lowest, p);
  }
  call.send = lowest;
  if (args.outputs() == 0) return absl::InternalError("a collective without an output");
  call.recv = args.Out<void>(0);
  return std::make_unique<CollectiveKernel>(group->second, std::move(call));
}

REGISTER_KERNEL(all_gather, Make);
REGISTER_KERNEL(reduce_scatter, Make);
REGISTER_KERNEL(all_reduce, Make);
REGISTER_DEVICE_KERNEL(cuda, all_gather, Make);
REGISTER_DEVICE_KERNEL(cuda, reduce_scatter, Make);
REGISTER_DEVICE_KERNEL(cuda, all_reduce, Make);

}  // namespace
}  // namespace millrace
