#include "ops/cuda/nvml.h"

#include <dlfcn.h>

namespace millrace {
namespace {

constexpr int kGpuSensor = 0;  // NVML_TEMPERATURE_GPU

template <typename F>
void Find(void* library, const char* name, F** function) {
  *function = reinterpret_cast<F*>(dlsym(library, name));
}

}  // namespace

Nvml::Nvml(const char* library) : library_(dlopen(library, RTLD_NOW | RTLD_LOCAL)) {
  if (library_ == nullptr) return;
  Find(library_, "nvmlInit_v2", &table_.init);
  Find(library_, "nvmlShutdown", &table_.shutdown);
  Find(library_, "nvmlDeviceGetHandleByIndex_v2", &table_.handle_by_index);
  Find(library_, "nvmlDeviceGetUtilizationRates", &table_.utilization);
  Find(library_, "nvmlDeviceGetTemperature", &table_.temperature);
  Find(library_, "nvmlDeviceGetPowerUsage", &table_.power_milliwatts);
  Find(library_, "nvmlDeviceGetMemoryInfo", &table_.memory);
  Start();
}

Nvml::Nvml(const NvmlTable& table) : table_(table) { Start(); }

void Nvml::Start() {
  ready_ = table_.init != nullptr && table_.handle_by_index != nullptr && table_.init() == 0;
}

Nvml::~Nvml() {
  if (ready_ && table_.shutdown != nullptr) (void)table_.shutdown();
  if (library_ != nullptr) (void)dlclose(library_);
}

GpuReading Nvml::Read(int device) const {
  GpuReading reading;
  void* handle = nullptr;
  if (!ready_ || device < 0 ||
      table_.handle_by_index(static_cast<unsigned int>(device), &handle) != 0) {
    return reading;
  }
  NvmlTable::Utilization utilization = {};
  if (table_.utilization != nullptr && table_.utilization(handle, &utilization) == 0) {
    reading.utilization_percent = static_cast<int>(utilization.gpu);
  }
  unsigned int number = 0;
  if (table_.temperature != nullptr && table_.temperature(handle, kGpuSensor, &number) == 0) {
    reading.temperature_celsius = static_cast<int>(number);
  }
  if (table_.power_milliwatts != nullptr && table_.power_milliwatts(handle, &number) == 0) {
    reading.power_watts = number / 1000.0;
  }
  NvmlTable::Memory memory = {};
  if (table_.memory != nullptr && table_.memory(handle, &memory) == 0) {
    reading.memory_used_bytes = static_cast<int64_t>(memory.used);
  }
  return reading;
}

}  // namespace millrace
