#include "data/storage/storage_probe.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "data/storage/page_memory.h"
#include "data/storage/sizes.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

struct Pair {
  int64_t block_bytes;
  int queue_depth;
};

// The likeliest first: a slow drive leaves time for few. The rings take 4 to 16 MiB.
constexpr Pair kPairs[] = {{1 << 20, 8},  {256 << 10, 16}, {4 << 20, 4},
                           {1 << 20, 16}, {256 << 10, 64}, {2 << 20, 2}};
constexpr int64_t kFirstPart = 4 << 20;

// Bytes a second of one direction: parts of the file, larger each time, until `seconds` are over. `end` is how much of
// the file may be read; a write moves it.
absl::StatusOr<double> Rate(StorageFile* file, const PageMemory& memory, bool write, double seconds,
                            int64_t* end) {
  const Clock::time_point begin = Clock::now();
  const int64_t limit = write ? memory.bytes() : *end;
  int64_t moved = 0, offset = 0, part = std::min(kFirstPart, limit);
  do {
    if (offset == limit) offset = 0;
    const int64_t bytes = std::min(part, limit - offset);
    RETURN_IF_ERROR(write ? file->Write(offset, memory.data() + offset, bytes)
                          : file->Read(offset, memory.data() + offset, bytes));
    offset += bytes;
    moved += bytes;
    if (write) *end = std::max(*end, offset);
    part *= 2;
  } while (SecondsSince(begin) < seconds);
  return static_cast<double>(moved) / SecondsSince(begin);
}

}  // namespace

absl::StatusOr<StorageProbe> ProbeStorage(const StorageProbeOptions& options) {
  const Clock::time_point begin = Clock::now();
  const double slice = options.seconds / (2 * std::size(kPairs) + 1);
  StorageProbe probe;
  const PageMemory memory(options.file_bytes, /*populate=*/true);
  if (memory.data() == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory to probe storage: ", options.file_bytes, " bytes"));
  }
  StorageFile::Options file_options;
  static std::atomic<int> next{0};  // the ranks of a process may probe at the same time
  file_options.path = absl::StrCat(options.folder, "/.millrace_probe.", getpid(), ".", next++);
  file_options.bytes = options.file_bytes;
  file_options.engine = options.engine;
  file_options.direct = options.direct;
  std::vector<Pair> pairs(std::begin(kPairs), std::end(kPairs));
  if (options.ring_bytes > 0) {
    pairs.clear();
    for (int64_t block : {1 << 20, 256 << 10, 4 << 20, 512 << 10, 2 << 20}) {
      const int64_t depth = options.ring_bytes / block;
      if (depth >= 1 && depth * block == options.ring_bytes)
        pairs.push_back({block, static_cast<int>(depth)});
    }
    if (pairs.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("a ring of ", options.ring_bytes, " bytes, expected a multiple of 256 KiB"));
    }
  }
  for (const Pair& pair : pairs) {
    if (!probe.tried.empty() && SecondsSince(begin) + 2 * slice > options.seconds) break;
    file_options.block_bytes = pair.block_bytes;
    file_options.queue_depth = pair.queue_depth;
    ASSIGN_OR_RETURN(const std::unique_ptr<StorageFile> file, StorageFile::Create(file_options));
    // Reserved pages become data at their first write, which is slower; a run writes them many times.
    int64_t end = 0;
    ASSIGN_OR_RETURN(const double first, Rate(file.get(), memory, true, 0.0, &end));
    (void)first;
    StorageRates rates = {pair.block_bytes, pair.queue_depth, 0, 0, file->description()};
    ASSIGN_OR_RETURN(rates.write_bytes_per_second, Rate(file.get(), memory, true, slice, &end));
    ASSIGN_OR_RETURN(rates.read_bytes_per_second, Rate(file.get(), memory, false, slice, &end));
    probe.tried.push_back(std::move(rates));
  }
  probe.best = BestOf(probe.tried);
  return probe;
}

StorageRates BestOf(absl::Span<const StorageRates> tried) {
  auto seconds = [](const StorageRates& r) {  // for a byte out and back
    return 1 / r.write_bytes_per_second + 1 / r.read_bytes_per_second;
  };
  double least = seconds(tried[0]);
  for (const StorageRates& rates : tried) least = std::min(least, seconds(rates));
  const StorageRates* best = nullptr;
  for (const StorageRates& rates : tried) {
    if (seconds(rates) > 1.05 * least) continue;
    if (best == nullptr ||
        rates.block_bytes * rates.queue_depth < best->block_bytes * best->queue_depth) {
      best = &rates;
    }
  }
  return *best;
}

}  // namespace millrace
