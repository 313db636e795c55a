// copy: moves values between the tiers of one rank, or within one.
//
//   node { name: "copy_to_host/grad/bucket_0" op: "copy" input: "grad/bucket_0" output: "host_grad/bucket_0" }
//
// On the CPU back end device and host are both memory of the process, and a copy between them is memcpy, on the lane that
// stands for the copy engine. On a device its copy engines do it, in the lane's stream. A value on storage is a range of the rank's file.
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "data/storage/storage_file.h"
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
  bool capturable() const override { return true; }
  absl::Status Run(const StepContext&) override {
    for (const Piece& p : pieces_) std::memcpy(p.to, p.from, p.bytes);
    return absl::OkStatus();
  }
  absl::Status Issue(const StepContext&, const DeviceStream& stream) override {
    for (const Piece& p : pieces_) {
      RETURN_IF_ERROR(stream.device->Copy(stream.stream, p.to, p.from, p.bytes));
    }
    return absl::OkStatus();
  }

 private:
  const std::vector<Piece> pieces_;
};

class StorageCopy final : public Kernel {
 public:
  StorageCopy(StorageFile* file, bool write, std::vector<StorageFile::Piece> pieces)
      : file_(file), write_(write), pieces_(std::move(pieces)) {}
  absl::Status Run(const StepContext&) override {
    return write_ ? file_->Write(pieces_) : file_->Read(pieces_);
  }

 private:
  StorageFile* const file_;
  const bool write_;
  const std::vector<StorageFile::Piece> pieces_;
};

Tier TierOf(const KernelArgs& a, const Value& v) { return a.plan.graph.buffers()[v.buffer].tier; }

absl::StatusOr<std::unique_ptr<Kernel>> MakeStorageCopy(const KernelArgs& a) {
  if (a.rank.storage == nullptr) {
    return absl::FailedPreconditionError("the rank has no file for its storage tier");
  }
  const bool write = TierOf(a, a.output(0)) == Tier::kStorage;
  std::vector<StorageFile::Piece> pieces;
  for (int i = 0; i < a.inputs(); ++i) {
    const bool to = TierOf(a, a.output(i)) == Tier::kStorage;
    const bool from = TierOf(a, a.input(i)) == Tier::kStorage;
    if (to == from || to != write) {
      return absl::InvalidArgumentError(
          absl::StrCat("copies '", a.input(i).name, "' to '", a.output(i).name,
                       "'; expected all of a node's copies to lead to storage, or all from it"));
    }
    const ValueId file = write ? a.output_ids()[i] : a.node().inputs[i];
    // The plan outlives its kernels, so the name may be a view.
    pieces.push_back({a.buffers.place(file), write ? a.In<void>(i) : a.Out<void>(i),
                      a.input(i).bytes(), a.plan.graph.values()[file].name});
  }
  return std::make_unique<StorageCopy>(a.rank.storage, write, std::move(pieces));
}

absl::StatusOr<std::unique_ptr<Kernel>> Make(const KernelArgs& a) {
  for (int i = 0; i < a.inputs(); ++i) {
    if (TierOf(a, a.input(i)) == Tier::kStorage || TierOf(a, a.output(i)) == Tier::kStorage) {
      return MakeStorageCopy(a);
    }
  }
  std::vector<MemoryCopy::Piece> pieces;
  for (int i = 0; i < a.inputs(); ++i) {
    pieces.push_back({a.In<void>(i), a.Out<void>(i), a.input(i).bytes()});
  }
  return std::make_unique<MemoryCopy>(std::move(pieces));
}

REGISTER_KERNEL(copy, Make);
REGISTER_DEVICE_KERNEL(cuda, copy, Make);

}  // namespace
}  // namespace millrace
