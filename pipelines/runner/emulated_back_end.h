// A back end of emulated devices (graph/runtime/emulated_device.h), joined by the in-process group. Tests give it to the
// trainer in the place of CUDA's.
#ifndef MILLRACE_PIPELINES_RUNNER_EMULATED_BACK_END_H_
#define MILLRACE_PIPELINES_RUNNER_EMULATED_BACK_END_H_

#include <ATen/Parallel.h>

#include <memory>
#include <string>
#include <vector>

#include "dist/in_process.h"
#include "graph/runtime/emulated_device.h"
#include "ops/back_end.h"

namespace millrace {

class EmulatedBackEnd final : public BackEnd {
 public:
  explicit EmulatedBackEnd(const EmulatedDeviceOptions& options) : options_(options) {}

  bool own_operators() const override { return false; }
  absl::Status BeginProbe() override { return absl::OkStatus(); }
  absl::Status EndProbe() override { return absl::OkStatus(); }
  absl::StatusOr<std::shared_ptr<Device>> OpenDevice(int rank) override {
    EmulatedDeviceOptions options = options_;
    options.rank = rank;
    options.seed = options_.seed * 1000 + rank;
    options.thread_start = [] { at::set_num_threads(1); };
    devices.push_back(std::make_shared<EmulatedDevice>(options));
    return devices.back();
  }
  absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeGroup(const std::string& name,
                                                                       int size) override {
    InProcessOptions options;
    options.name = name;
    return InProcessGroup::Create(size, options);
  }

  std::vector<std::shared_ptr<EmulatedDevice>> devices;

 private:
  const EmulatedDeviceOptions options_;
};

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_EMULATED_BACK_END_H_
