// The files behind the storage tier: one per rank, in the folder that the pipeline names or the run's own, checked
// before anything is loaded, removed at the end. Where the pipeline leaves the requests' size open, a short probe of the
// drive chooses it. A run that was killed leaves its files behind: the next one in the same folder sees that nobody holds
// them and removes them. The ring that requests pass through is part of the plan (graph/lower/offload.h) and lies in
// the ranks' host memory.
//
//   ASSIGN_OR_RETURN(auto notes, CheckStorage(plan, pipeline.memory().offload().storage(), folder));   // first of all
//   ASSIGN_OR_RETURN(RankFiles files, OpenRankFiles(plan, arenas, pipeline.memory().offload().storage(), folder));
//   ranks_options.storage = files.by_rank();
#ifndef MILLRACE_PIPELINES_RUNNER_STORAGE_FILES_H_
#define MILLRACE_PIPELINES_RUNNER_STORAGE_FILES_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/storage/storage_file.h"
#include "data/storage/storage_probe.h"
#include "graph/ir/pipeline.pb.h"
#include "graph/plan/plan.h"
#include "graph/runtime/buffers.h"

namespace millrace {

struct RankFiles {
  std::vector<std::unique_ptr<StorageFile>> files;  // empty: the plan has no storage tier
  std::optional<StorageRates> probed;  // when the pipeline left the requests' size open
  std::vector<StorageFile*> by_rank() const {
    std::vector<StorageFile*> all;
    for (const auto& f : files) all.push_back(f.get());
    return all;
  }
};

// Whether `folder` can hold the plan's files: all that is wrong is said at once (kFailedPrecondition). Removes what killed
// runs left there. Returns what is worth knowing, a line each. Does nothing for a plan without a storage tier.
absl::StatusOr<std::vector<std::string>> CheckStorage(const Plan& plan,
                                                      const StorageFiles& settings,
                                                      const std::string& folder);

// `arenas` by rank; `folder` as checked.
absl::StatusOr<RankFiles> OpenRankFiles(const Plan& plan,
                                        const std::vector<std::shared_ptr<RankArenas>>& arenas,
                                        const StorageFiles& settings, const std::string& folder);

// Of all ranks' files; 0: the plan has no storage tier.
int64_t StorageBytes(const Plan& plan);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_STORAGE_FILES_H_
