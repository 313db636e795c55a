// join: names the whole of a flat bucket whose slices several stages have written. The bytes already lie side by
// side, so nothing runs.
//
//   node { name: "join/bucket_0/0" op: "join" input: "grad/bucket_0/layers.1/0" input: "grad/bucket_0/head/0" output: "grad/bucket_0/0" }
#include "ops/kernel_registry.h"

namespace millrace {
namespace {

class Join final : public Kernel {
 public:
  bool capturable() const override { return true; }
  absl::Status Run(const StepContext&) override { return absl::OkStatus(); }
  absl::Status Issue(const StepContext&, const DeviceStream&) override { return absl::OkStatus(); }
};

absl::StatusOr<std::unique_ptr<Kernel>> Make(const KernelArgs&) { return std::make_unique<Join>(); }

REGISTER_KERNEL(join, Make);
REGISTER_DEVICE_KERNEL(cuda, join, Make);

}  // namespace
}  // namespace millrace
