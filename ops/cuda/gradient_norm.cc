// grad_norm, norm_sum, clip_coefficient and update_loss_scale on the device: the nodes of ops/gradient_norm.cc, with the
// same bits and without the host.
#include <memory>
#include <utility>
#include <vector>

#include "graph/base/status.h"
#include "graph/ir/loss_scale_attrs.h"
#include "ops/bucket_runs.h"
#include "ops/cuda/device_table.h"
#include "ops/cuda/norm.h"
#include "ops/exact_norm.h"
#include "ops/kernel_registry.h"

namespace millrace {
namespace {

class GradNorm final : public Kernel {
 public:
  static absl::StatusOr<std::unique_ptr<Kernel>> Make(const KernelArgs& a) {
    std::vector<cuda::NormRange> ranges;
    const DType type = a.input(0).dtype;
    for (const BucketRun& run : BucketRuns(a, a.input(0))) {
      if (!run.statistic) {
        ranges.push_back({a.In<char>(0) + run.begin * SizeOf(type), run.count});
      }
    }
    const std::vector<cuda::Chunk> chunks = cuda::Chunks(ranges);
    auto kernel = std::make_unique<GradNorm>();
    ASSIGN_OR_RETURN(kernel->ranges_, DeviceTable::Of(a.rank.device, ranges));
    ASSIGN_OR_RETURN(kernel->chunks_, DeviceTable::Of(a.rank.device, chunks));
    kernel->launch_.type = type;
    kernel->launch_.ranges = kernel->ranges_.as<cuda::NormRange>();
    kernel->launch_.chunks = kernel->chunks_.as<cuda::Chunk>();
    kernel->launch_.chunk_count = static_cast<int64_t>(chunks.size());
    kernel->launch_.words = a.Out<int64_t>(0);
    return std::unique_ptr<Kernel>(std::move(kernel));
  }
  absl::Status Issue(const StepContext&, const DeviceStream& stream) override {
    return Launched(cuda::LaunchNorm(launch_, stream.native()), "grad_norm");
  }
  bool capturable() const override { return true; }

 private:
  DeviceTable ranges_, chunks_;
  cuda::NormLaunch launch_;
};

absl::StatusOr<DeviceTable> Inputs(const KernelArgs& a, int count) {
  std::vector<cuda::NormInput> inputs;
  for (int i = 0; i < count; ++i) {
    inputs.push_back({a.In<int64_t>(i), a.input(i).numel() / NormPartial::kWords});
  }
  return DeviceTable::Of(a.rank.device, inputs);
}

class NormSum final : public Kernel {
 public:
  NormSum(const KernelArgs& a, DeviceTable inputs)
      : inputs_(std::move(inputs)), count_(a.inputs()), out_(a.Out<int64_t>(0)) {}
  absl::Status Issue(const StepContext&, const DeviceStream& stream) override {
    return Launched(
        cuda::LaunchNormSum(inputs_.as<cuda::NormInput>(), count_, out_, stream.native()),
        "norm_sum");
  }
  bool capturable() const override { return true; }

 private:
  const DeviceTable inputs_;
  const int64_t count_;
  int64_t* const out_;
};

class ClipCoefficient final : public Kernel {
 public:
  ClipCoefficient(const KernelArgs& a, DeviceTable input)
      : input_(std::move(input)),
        max_norm_(FloatAttr(a.node(), "max_norm", 1.0)),
        scale_(a.inputs() > 1 ? a.In<LossScaleState>(1) : nullptr),
        out_(a.Out<float>(0)) {}
  absl::Status Issue(const StepContext&, const DeviceStream& stream) override {
    return Launched(cuda::LaunchClipCoefficient(input_.as<cuda::NormInput>(), 1, max_norm_, scale_,
                                                out_, stream.native()),
                    "clip_coefficient");
  }
  bool capturable() const override { return true; }

 private:
  const DeviceTable input_;
  const double max_norm_;
  const LossScaleState* const scale_;
  float* const out_;
};

class NextLossScale final : public Kernel {
 public:
  explicit NextLossScale(const KernelArgs& a)
      : options_(LossScaleOptionsOf(a.node())),
        coefficient_(a.In<float>(0)),
        state_(a.In<LossScaleState>(1)) {}
  absl::Status Issue(const StepContext&, const DeviceStream& stream) override {
    return Launched(cuda::LaunchLossScaleUpdate(options_, coefficient_, state_, stream.native()),
                    "update_loss_scale");
  }
  bool capturable() const override { return true; }

 private:
  const LossScaleOptions options_;
  const float* const coefficient_;
  LossScaleState* const state_;
};

using Made = absl::StatusOr<std::unique_ptr<Kernel>>;

REGISTER_DEVICE_KERNEL(cuda, grad_norm, GradNorm::Make);
REGISTER_DEVICE_KERNEL(cuda, norm_sum, [](const KernelArgs& a) -> Made {
  ASSIGN_OR_RETURN(DeviceTable inputs, Inputs(a, a.inputs()));
  return std::make_unique<NormSum>(a, std::move(inputs));
});
REGISTER_DEVICE_KERNEL(cuda, clip_coefficient, [](const KernelArgs& a) -> Made {
  ASSIGN_OR_RETURN(DeviceTable input, Inputs(a, 1));
  return std::make_unique<ClipCoefficient>(a, std::move(input));
});
REGISTER_DEVICE_KERNEL(cuda, update_loss_scale, [](const KernelArgs& a) -> Made {
  return std::make_unique<NextLossScale>(a);
});

}  // namespace
}  // namespace millrace
