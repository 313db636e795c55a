#include "ops/cuda/device_table.h"

#include <atomic>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

std::atomic<int64_t> table_bytes{0};

}  // namespace

int64_t DeviceTableBytes() { return table_bytes.load(); }

absl::Status Launched(const char* error, const char* what) {
  if (error == nullptr) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("the launch of ", what, ": ", error));
}

absl::StatusOr<DeviceTable> DeviceTable::Make(Device* device, const void* from, int64_t bytes) {
  DeviceTable table;
  if (bytes == 0) return table;
  ASSIGN_OR_RETURN(table.data_, device->Allocate(Tier::kDevice, bytes));
  table.device_ = device;
  table.bytes_ = bytes;
  table_bytes += bytes;
  RETURN_IF_ERROR(device->Write(table.data_, from, bytes));
  return table;
}

DeviceTable::~DeviceTable() {
  if (data_ == nullptr) return;
  device_->Release(Tier::kDevice, data_, bytes_);
  table_bytes -= bytes_;
}

absl::StatusOr<PiecesLaunch> PiecesLaunch::Make(Device* device,
                                                const std::vector<cuda::Piece>& pieces) {
  if (const char* error = cuda::CheckPieces(pieces)) return absl::InvalidArgumentError(error);
  PiecesLaunch launch;
  const std::vector<cuda::Chunk> chunks = cuda::Chunks(pieces);
  launch.chunk_count_ = static_cast<int64_t>(chunks.size());
  ASSIGN_OR_RETURN(launch.pieces_, DeviceTable::Of(device, pieces));
  ASSIGN_OR_RETURN(launch.chunks_, DeviceTable::Of(device, chunks));
  return launch;
}

absl::Status PiecesLaunch::Issue(void* stream) const {
  if (chunk_count_ == 0) return absl::OkStatus();
  return Launched(cuda::LaunchPieces(pieces_.as<cuda::Piece>(), chunks_.as<cuda::Chunk>(),
                                     chunk_count_, stream),
                  "casts and gaps");
}

}  // namespace millrace
