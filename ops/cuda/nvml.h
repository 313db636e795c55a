// What the driver knows of a GPU beside CUDA: utilisation, temperature, power, memory in use. By NVML
// (libnvidia-ml.so.1), which comes with the driver; where it is missing, or a card does not tell, values are absent and
// that is no error.
//
//   Nvml nvml;                                        // or Nvml(table) with a table of a test's
//   if (nvml.present()) GpuReading r = nvml.Read(0);
//   if (r.temperature_celsius) ...
//
// Devices are numbered as NVML does: by bus, not by CUDA_VISIBLE_DEVICES. Some hundred microseconds a reading: not in a
// step. Thread-compatible.
#ifndef MILLRACE_OPS_CUDA_NVML_H_
#define MILLRACE_OPS_CUDA_NVML_H_

#include <cstdint>
#include <optional>

namespace millrace {

struct GpuReading {
  std::optional<int>
      utilization_percent;  // of time in which a kernel ran, over the last second or so
  std::optional<int> temperature_celsius;
  std::optional<double> power_watts;
  std::optional<int64_t> memory_used_bytes;  // of all processes
};

// The functions of NVML that are used; results are nvmlReturn_t, 0 is success.
struct NvmlTable {
  struct Utilization {
    unsigned int gpu, memory;
  };
  struct Memory {
    unsigned long long total, free, used;  // NOLINT: NVML's type
  };
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*handle_by_index)(unsigned int, void**) = nullptr;
  int (*utilization)(void*, Utilization*) = nullptr;
  int (*temperature)(void*, int sensor, unsigned int*) = nullptr;
  int (*power_milliwatts)(void*, unsigned int*) = nullptr;
  int (*memory)(void*, Memory*) = nullptr;
};

class Nvml {
 public:
  explicit Nvml(const char* library = "libnvidia-ml.so.1");
  explicit Nvml(const NvmlTable& table);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  bool present() const { return ready_; }
  GpuReading Read(int device) const;

 private:
  void Start();
  void* library_ = nullptr;
  NvmlTable table_;
  bool ready_ = false;
};

}  // namespace millrace

#endif  // MILLRACE_OPS_CUDA_NVML_H_
