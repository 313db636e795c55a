#include "tools/advise/compatible.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace millrace {
namespace {

// N times the bytes per parameter and device at each stage.
std::array<int64_t, 4> PerParameter(int64_t n) { return {16 * n, 4 * n + 12, 2 * n + 14, 16}; }

constexpr const char* kFormula[] = {"2 + 2 + 12", "2 + 2 + 12/N", "2 + (2 + 12)/N", "16/N"};

}  // namespace

absl::string_view Name(OffloadKind o) {
  switch (o) {
    case OffloadKind::kNone:
      return "none";
    case OffloadKind::kCpu:
      return "cpu";
    case OffloadKind::kNvme:
      return "nvme";
  }
  return "?";
}

CompatibleAdvice AdviseCompatibly(const CompatibleInput& in) {
  using Wide = __int128;
  CompatibleAdvice advice;
  advice.limit_bytes = static_cast<double>(in.memory_bytes) * 7 / 10;
  advice.host_needed_bytes = 12.0 * static_cast<double>(in.parameters);
  const std::array<int64_t, 4> numerator = PerParameter(in.devices);
  bool found = false;
  for (int stage = 0; stage < 4; ++stage) {
    advice.per_param[stage] =
        static_cast<double>(numerator[stage]) / static_cast<double>(in.devices);
    advice.bytes[stage] = advice.per_param[stage] * static_cast<double>(in.parameters);
    // numerator x P / N < 7/10 M
    advice.below[stage] =
        Wide{numerator[stage]} * in.parameters * 10 < Wide{7} * in.memory_bytes * in.devices;
    if (advice.below[stage] && !found) advice.stage = stage;
    found = found || advice.below[stage];
  }
  if (!found) {
    advice.offload =
        Wide{12} * in.parameters <= Wide{in.host_bytes} ? OffloadKind::kCpu : OffloadKind::kNvme;
  }
  return advice;
}

std::string ToText(const CompatibleAdvice& a, const CompatibleInput& in) {
  std::string text = absl::StrFormat(
      "compatible mode: %d parameters, %d devices of %.3f GB; 2 B model, 2 B gradients, 12 B "
      "optimizer per parameter; no activations\n"
      "  stage  bytes/parameter  formula          GB/device  below 70 %% (%.3f GB)\n",
      in.parameters, in.devices, static_cast<double>(in.memory_bytes) / 1e9, a.limit_bytes / 1e9);
  for (int stage = 0; stage < 4; ++stage) {
    absl::StrAppend(&text, absl::StrFormat("  %5d  %15.4f  %-15s  %9.3f  %s\n", stage,
                                           a.per_param[stage], kFormula[stage],
                                           a.bytes[stage] / 1e9, a.below[stage] ? "yes" : "no"));
  }
  switch (a.offload) {
    case OffloadKind::kNone:
      absl::StrAppend(&text, "use ZeRO stage ", a.stage, ": the first below 70 %\n");
      break;
    case OffloadKind::kCpu:
      absl::StrAppend(
          &text,
          absl::StrFormat("use ZeRO stage 3 with CPU offload: no stage is below "
                          "70 %%; the host's %.3f GB take the optimizer's %.3f GB\n",
                          static_cast<double>(in.host_bytes) / 1e9, a.host_needed_bytes / 1e9));
      break;
    case OffloadKind::kNvme:
      absl::StrAppend(
          &text, absl::StrFormat(
                     "use ZeRO stage 3 with NVMe: no stage is below 70 %%, and the optimizer's "
                     "%.3f GB do not fit the host's memory (%s)\n",
                     a.host_needed_bytes / 1e9,
                     in.host_bytes == 0
                         ? "unknown: give --host_memory"
                         : absl::StrFormat("%.3f GB", static_cast<double>(in.host_bytes) / 1e9)));
      break;
  }
  return text;
}

}  // namespace millrace
