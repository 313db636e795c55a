#include "pipelines/runner/storage_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "data/storage/preflight.h"
#include "graph/base/status.h"
#include "graph/lower/offload.h"
#include "graph/lower/options.h"

namespace millrace {
namespace {

constexpr char kPrefix[] = "storage.rank";

StorageFile::Engine EngineOf(const StorageFiles& settings) {
  switch (settings.engine()) {
    case StorageFiles::IO_URING:
      return StorageFile::Engine::kIoUring;
    case StorageFiles::THREADS:
      return StorageFile::Engine::kThreads;
    default:
      return StorageFile::Engine::kAuto;
  }
}

// Where the plan keeps the ring of a rank; null when it has none.
char* RingIn(const Plan& plan, int rank, const RankArenas& arenas, int64_t* bytes) {
  for (size_t b = 0; b < plan.graph.buffers().size(); ++b) {
    const Buffer& buffer = plan.graph.buffers()[b];
    if (buffer.name != kStorageRing) continue;
    *bytes = buffer.bytes;
    return static_cast<char*>(arenas.base(buffer.tier)) + plan.ForRank(rank).offset[b];
  }
  return nullptr;
}

// Whoever uses a storage file holds a lock on it, so one without a lock is of a run that was killed.
void RemoveStaleFiles(const std::string& folder, std::vector<std::string>* notes) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (!absl::StartsWith(entry.path().filename().string(), kPrefix)) continue;
    const std::string path = entry.path().string();
    const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) continue;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && unlink(path.c_str()) == 0) {
      notes->push_back(absl::StrCat("removed ", path, ", which a run that was killed left behind"));
    }
    close(fd);
  }
}

}  // namespace

int64_t StorageBytes(const Plan& plan) {
  int64_t bytes = 0;
  for (int r = 0; r < plan.world_size; ++r) {
    bytes += plan.ForRank(r).arena_bytes[static_cast<int>(Tier::kStorage)];
  }
  return bytes;
}

absl::StatusOr<std::vector<std::string>> CheckStorage(const Plan& plan,
                                                      const StorageFiles& settings,
                                                      const std::string& folder) {
  std::vector<std::string> notes;
  const int64_t bytes = StorageBytes(plan);
  if (bytes == 0) return notes;
  RemoveStaleFiles(folder, &notes);
  Findings findings;
  StorageFacts facts = CheckStorageFolder(
      {.folder = folder, .bytes = bytes, .engine = EngineOf(settings)}, &findings);
  RETURN_IF_ERROR(findings.ToStatus());
  for (std::string& note : facts.notes) notes.push_back(std::move(note));
  return notes;
}

absl::StatusOr<RankFiles> OpenRankFiles(const Plan& plan,
                                        const std::vector<std::shared_ptr<RankArenas>>& arenas,
                                        const StorageFiles& settings, const std::string& folder) {
  RankFiles result;
  if (StorageBytes(plan) == 0) return result;
  const StorageRing ring = RingOf(settings);
  StorageFile::Options options;
  options.engine = EngineOf(settings);
  options.checksum = settings.checksum();
  options.block_bytes = ring.block_bytes;
  options.queue_depth = ring.queue_depth;
  if (ring.open) {
    ASSIGN_OR_RETURN(const StorageProbe probe, ProbeStorage({.folder = folder,
                                                             .engine = options.engine,
                                                             .ring_bytes = StorageRing::kBytes}));
    result.probed = probe.best;
    options.block_bytes = probe.best.block_bytes;
    options.queue_depth = probe.best.queue_depth;
  }
  for (size_t r = 0; r < arenas.size(); ++r) {
    const auto rank = static_cast<int>(r);
    int64_t ring_bytes = 0;
    options.staging = RingIn(plan, rank, *arenas[r], &ring_bytes);
    if (options.staging == nullptr || ring_bytes < options.block_bytes * options.queue_depth) {
      return absl::InternalError(absl::StrCat("the plan keeps ", ring_bytes,
                                              " bytes for the ring of rank ", rank, ", expected ",
                                              options.block_bytes * options.queue_depth));
    }
    options.path = absl::StrCat(folder, "/", kPrefix, rank, ".", getpid());
    options.bytes = arenas[r]->bytes(Tier::kStorage);
    ASSIGN_OR_RETURN(std::unique_ptr<StorageFile> file, StorageFile::Create(options));
    result.files.push_back(std::move(file));
  }
  return result;
}

}  // namespace millrace
