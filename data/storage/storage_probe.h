// Which block size and queue depth suit a drive, and how fast it then is: measured, in at most about a second, on a
// file in the folder that will hold the storage files. The rates are those of StorageFile, sums included.
//
//   ASSIGN_OR_RETURN(StorageProbe probe, ProbeStorage({.folder = "/nvme"}));
//   options.block_bytes = probe.best.block_bytes;
//   options.queue_depth = probe.best.queue_depth;
#ifndef MILLRACE_DATA_STORAGE_STORAGE_PROBE_H_
#define MILLRACE_DATA_STORAGE_STORAGE_PROBE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/storage/storage_file.h"

namespace millrace {

struct StorageRates {
  int64_t block_bytes = 0;
  int queue_depth = 0;
  double read_bytes_per_second = 0;
  double write_bytes_per_second = 0;
  std::string engine;  // StorageFile::description()
};

struct StorageProbe {
  StorageRates best;
  std::vector<StorageRates> tried;  // in the order of trial; `best` is one of them
};

struct StorageProbeOptions {
  std::string folder;
  StorageFile::Engine engine = StorageFile::Engine::kAuto;
  bool direct = true;
  double seconds = 0.8;                    // budget; at least one pair is always measured
  int64_t file_bytes = int64_t{32} << 20;  // as much memory is used, too
  int64_t ring_bytes = 0;                  // only pairs whose ring is this large; 0: of 4 to 16 MiB
};

absl::StatusOr<StorageProbe> ProbeStorage(const StorageProbeOptions& options);

// The pair that reads and writes a byte in the least time; of those within 5 % of it, the one with the smallest
// staging ring. `tried` is not empty.
StorageRates BestOf(absl::Span<const StorageRates> tried);

}  // namespace millrace

#endif  // MILLRACE_DATA_STORAGE_STORAGE_PROBE_H_
