// copy: moves values between the tiers of one rank, or within one.
//
//   node { name: "copy_to_host/grad/bucket_0" op: "copy" input: "grad/bucket_0" output: "host_grad/bucket_0" }
//
// On this back end device and host are both memory of the process, and a copy between them is memcpy, on the lane that
// stands for the copy engine. A value on storage is a range of the rank's file.
#include <cstring>
#include <vector>

#include "graph/base/status.h"
#include "ops/kernel_registry.h"

namespace millrace {
namespace {

class MemoryCopy final : public Kernel {
 public:
  struct Piece {
    const void* from;
    void* to;
    int64_t bytes;
  };
  explicit MemoryCopy(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {}
  absl::Status Run(const StepContext&) override {
    for (const Piece& p : pieces_) std::memcpy(p.to, p.from, p.bytes);
    return absl::OkStatus();
  }

 private:
  const std::vector<Piece> pieces_;
};

absl::StatusOr<std::unique_ptr<Kernel>> Make(const KernelArgs& a) {
  std::vector<MemoryCopy::Piece> pieces;
  for (int i = 0; i < a.inputs(); ++i) {
    pieces.push_back({a.In<void>(i), a.Out<void>(i), a.input(i).bytes()});
  }
  return std::make_unique<MemoryCopy>(std::move(pieces));
}

REGISTER_KERNEL(copy, Make);

}  // namespace
}  // namespace millrace
