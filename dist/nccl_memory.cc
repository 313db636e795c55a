// See nccl_memory.h.
#include "dist/nccl_memory.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "graph/base/findings.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

constexpr int64_t kLowLatency = 512 << 10;  // LL: 8 lines x 512 threads x 8 steps x 16 bytes
constexpr int64_t kLowLatency128 = 120 * 640 * 8 * 8;  // LL128: elements, threads, steps, bytes
constexpr int kConnectionsOfChannel = 3;
constexpr int kPointToPointChannels = 4;
constexpr int64_t kOwn = 16 << 20;
constexpr int kMostChannels = 64;

}  // namespace

absl::StatusOr<NcclMemory> FixNcclMemory(NcclMemory wanted) {
  Findings findings;
  if (const char* text = std::getenv("NCCL_BUFFSIZE")) {
    if (!absl::SimpleAtoi(text, &wanted.buffer_bytes)) {
      findings.Add({.check = "nccl",
                    .message = absl::StrCat("NCCL_BUFFSIZE is '", text, "', expected bytes"),
                    .suggestion = "unset it, or write a number like 4194304"});
    }
  }
  if (wanted.channels < 1 || wanted.channels > kMostChannels) {
    findings.Add({.check = "nccl",
                  .message = absl::StrCat("channels is ", wanted.channels, ", expected one in [1, ",
                                          kMostChannels, "]")});
  }
  if (wanted.buffer_bytes < 4096 || wanted.buffer_bytes > 1 << 30) {
    findings.Add({.check = "nccl",
                  .message = absl::StrCat("the buffer of a channel is ", wanted.buffer_bytes,
                                          " bytes, expected 4 KiB to 1 GiB")});
  }
  RETURN_IF_ERROR(findings.ToStatus());
  setenv("NCCL_BUFFSIZE", absl::StrCat(wanted.buffer_bytes).c_str(), /*overwrite=*/0);
  setenv("NCCL_RUNTIME_CONNECT", "0", /*overwrite=*/0);
  setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/0);
  return wanted;
}

int64_t NcclBufferBytes(int size, const NcclMemory& memory) {
  if (size <= 1) return kOwn;
  const int64_t connection = memory.buffer_bytes + kLowLatency + kLowLatency128;
  int64_t connections = int64_t{memory.channels} * kConnectionsOfChannel;
  if (memory.point_to_point) {
    connections += int64_t{std::min(memory.channels, kPointToPointChannels)} * (size - 1);
  }
  return connections * connection + kOwn;
}

}  // namespace millrace
