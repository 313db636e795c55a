// The CUDA back end: rank r of this process on cuda:r, groups by NCCL. Registered as "CUDA".
//
// LibTorch's CUDA libraries and NCCL are loaded only after a device was found: the program starts without them.
#include "ops/back_end.h"

#include <map>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dist/nccl.h"
#include "graph/base/status.h"
#include "models/allocator.h"
#include "models/cuda/torch_cuda.h"
#include "ops/cuda/cuda_device.h"

namespace millrace {
namespace {

// For what LibTorch's operators ask beyond the plan (models/arena.h). Not in the plan.
constexpr int64_t kSpillBytes = int64_t{64} << 20;

// LibTorch is set up once in a process.
absl::StatusOr<const TorchCudaShim*> SetUpTorch() {
  static const TorchCudaShim* done = nullptr;
  if (done != nullptr) return done;
  ASSIGN_OR_RETURN(const TorchCudaShim* const torch, LoadTorchCuda());
  // f32 is f32, and the same step gives the same bits.
  const TorchCudaOptions options = {/*allow_tf32=*/0, /*deterministic=*/1};
  RETURN_IF_ERROR(ShimStatus(torch->configure(&options), "setting up LibTorch on CUDA"));
  RETURN_IF_ERROR(ShimStatus(torch->install_allocator(CudaAllocatorHooks()),
                             "giving LibTorch the plan's memory"));
  done = torch;
  return done;
}

class CudaBackEnd final : public BackEnd {
 public:
  CudaBackEnd(const TorchCudaShim* torch, const NcclMemory& memory, bool nvtx)
      : torch_(torch), memory_(memory), nvtx_(nvtx) {}

  bool own_operators() const override { return true; }
  absl::Status BeginProbe() override {
    return ShimStatus(torch_->prepare(0, nullptr), "preparing cuda:0 to probe stages");
  }
  absl::Status EndProbe() override {
    return ShimStatus(torch_->release_cached(), "giving back what probing took");
  }

  absl::StatusOr<std::shared_ptr<Device>> OpenDevice(int rank) override {
    CudaDeviceOptions options;
    options.ranges = nvtx_;
    ASSIGN_OR_RETURN(std::shared_ptr<CudaDevice> device, CudaDevice::Open(rank, options));
    RETURN_IF_ERROR(device->UseTorch(torch_, kSpillBytes));
    devices_[rank] = device;
    gpus_.erase(rank);  // of the run before
    return std::shared_ptr<Device>(std::move(device));
  }

  absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeGroup(const std::string& name,
                                                                       int size) override {
    if (nccl_ == nullptr) {
      ASSIGN_OR_RETURN(nccl_, LoadNccl());
    }
    std::vector<int> ranks(size);
    std::iota(ranks.begin(), ranks.end(), 0);
    std::vector<NcclMember> members;
    for (int r : ranks) {
      ASSIGN_OR_RETURN(std::shared_ptr<NcclDevice> gpu, Gpu(r));
      members.push_back({r, std::move(gpu)});
    }
    NcclOptions options;
    options.name = name;
    options.generation = generation_++;
    options.memory = memory_;
    ASSIGN_OR_RETURN(auto made, NcclGroup::Create(*nccl_, ranks, members, nullptr, options));
    std::vector<std::unique_ptr<Communicator>> group;
    for (auto& member : made) group.push_back(std::move(member));
    return group;
  }

 private:
  // One for all groups of a device: it checks that one thread issues them all.
  absl::StatusOr<std::shared_ptr<NcclDevice>> Gpu(int rank) {
    std::shared_ptr<NcclDevice>& gpu = gpus_[rank];
    if (gpu != nullptr) return gpu;
    const auto found = devices_.find(rank);
    const std::shared_ptr<CudaDevice> device =
        found == devices_.end() ? nullptr : found->second.lock();
    if (device == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat("the device of rank ", rank, " is not open"));
    }
    ASSIGN_OR_RETURN(const CudaStepSlot scratch, device->NewStepSlot(16));  // stays zero
    gpu = std::make_shared<NcclDevice>(device->ordinal(), const_cast<void*>(scratch.device),
                                       [device] { return device->MakeCurrent(); });
    return gpu;
  }

  const TorchCudaShim* const torch_;
  const NcclMemory memory_;
  const bool nvtx_;
  const NcclApi* nccl_ = nullptr;
  std::map<int, std::weak_ptr<CudaDevice>> devices_;
  std::map<int, std::shared_ptr<NcclDevice>> gpus_;
  int generation_ = 0;
};

absl::StatusOr<std::shared_ptr<BackEnd>> Open(const BackEndOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<CudaDeviceInfo> found, CudaDevices());
  if (static_cast<int>(found.size()) < options.ranks) {
    return absl::FailedPreconditionError(
        absl::StrCat("the pipeline has ", options.ranks, " ranks, and this process sees ",
                     found.size(), " CUDA devices, ", found[0].name));
  }
  ASSIGN_OR_RETURN(const NcclMemory memory, FixNcclMemory({}));  // NCCL reads it when it is loaded
  ASSIGN_OR_RETURN(const TorchCudaShim* const torch, SetUpTorch());
  return std::shared_ptr<BackEnd>(std::make_shared<CudaBackEnd>(torch, memory, options.nvtx));
}

const bool registered = RegisterBackEnd("CUDA", Open);

}  // namespace
}  // namespace millrace
