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
};

REGISTER_KERNEL(join, [](const KernelArgs&) -> absl::StatusOr<std::unique_ptr<Kernel>> {
  return std::make_unique<Join>();
});

}  // namespace
}  // namespace millrace
