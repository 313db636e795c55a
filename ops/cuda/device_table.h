// What a kernel reads besides values: tables that are made once, with the kernel, and lie on the device as long as it
// lives. They are not in the plan; DeviceTableBytes() says how much they are.
//
//   ASSIGN_OR_RETURN(const DeviceTable runs, DeviceTable::Of(device, host_runs));
//   launch.runs = runs.as<OptimizerRun>();
//   RETURN_IF_ERROR(Launched(Launch(launch, stream), "adamw"));
//
// Between steps only; the device outlives its tables.
#ifndef MILLRACE_OPS_CUDA_DEVICE_TABLE_H_
#define MILLRACE_OPS_CUDA_DEVICE_TABLE_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/runtime/device.h"
#include "ops/cuda/cast.h"
#include "ops/cuda/chunks.h"

namespace millrace {

class DeviceTable {
 public:
  DeviceTable() = default;
  DeviceTable(DeviceTable&& o) noexcept { Swap(o); }
  DeviceTable& operator=(DeviceTable&& o) noexcept {
    Swap(o);
    return *this;
  }
  ~DeviceTable();

  static absl::StatusOr<DeviceTable> Make(Device* device, const void* from, int64_t bytes);
  template <typename T>
  static absl::StatusOr<DeviceTable> Of(Device* device, const std::vector<T>& items) {
    return Make(device, items.data(), static_cast<int64_t>(items.size() * sizeof(T)));
  }
  // Null when it is empty.
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void Swap(DeviceTable& o) {
    std::swap(device_, o.device_);
    std::swap(data_, o.data_);
    std::swap(bytes_, o.bytes_);
  }
  Device* device_ = nullptr;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Of all tables of the process.
int64_t DeviceTableBytes();

// What a launch said, as a status.
absl::Status Launched(const char* error, const char* what);

// Pieces of ops/cuda/cast.h, one launch.
class PiecesLaunch {
 public:
  static absl::StatusOr<PiecesLaunch> Make(Device* device, const std::vector<cuda::Piece>& pieces);
  absl::Status Issue(void* stream) const;

 private:
  DeviceTable pieces_, chunks_;
  int64_t chunk_count_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_OPS_CUDA_DEVICE_TABLE_H_
