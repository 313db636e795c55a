// The advisor's compatible mode: the common rule of thumb for mixed-precision Adam, states only, no activations.
// With P parameters, N devices of M bytes; model 2 B, gradients 2 B, optimizer 12 B per parameter; bytes per
// parameter and device:
//
//   stage 0   2 + 2 + 12          stage 2   2 + (2 + 12)/N
//   stage 1   2 + 2 + 12/N        stage 3   16/N
//
// The first stage below 70 % of M wins. Where none is, stage 3 with CPU offload if the host's memory takes the
// optimizer states of all devices (12 B x P), else with NVMe.
//
//   CompatibleAdvice advice = AdviseCompatibly({.parameters = 7500000000, .devices = 64, .memory_bytes = 32 << 30});
//   advice.stage == 2; advice.offload == OffloadKind::kNone;
//
// Compared exactly, in integers: a stage at the limit is not below it.
#ifndef MILLRACE_TOOLS_ADVISE_COMPATIBLE_H_
#define MILLRACE_TOOLS_ADVISE_COMPATIBLE_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace millrace {

struct CompatibleInput {
  int64_t parameters = 0;
  int64_t devices = 1;
  int64_t memory_bytes = 0;  // of one device
  int64_t host_bytes = 0;    // of the host, 0: unknown, takes nothing
};

enum class OffloadKind : uint8_t { kNone, kCpu, kNvme };
absl::string_view Name(OffloadKind o);  // "none", "cpu", "nvme"

struct CompatibleAdvice {
  std::array<double, 4> bytes{};      // per device, by stage
  std::array<double, 4> per_param{};  // bytes per parameter and device
  std::array<bool, 4> below{};        // 70 % of the memory
  double limit_bytes = 0;             // 70 % of the memory
  int stage = 3;
  OffloadKind offload = OffloadKind::kNone;
  double host_needed_bytes = 0;  // 12 B x parameters
};

CompatibleAdvice AdviseCompatibly(const CompatibleInput& input);

std::string ToText(const CompatibleAdvice& advice, const CompatibleInput& input);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_ADVISE_COMPATIBLE_H_
