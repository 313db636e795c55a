// The bytes of persistent values between steps, wherever their tier is. In the host's memory they are just an address;
// from storage, or a device's memory, a value is read into a window, and written back when it was changed and another
// value of its role is asked for. Windows hold one value - a bucket's shard - for each rank and role ("param", "exp_avg"), so going through a
// model's tensors in order reads every byte once.
//
//   StateMemory memory(plan, buffers, files);
//   ASSIGN_OR_RETURN(char* bytes, memory.At(rank, value, /*change=*/true));
//   ...
//   RETURN_IF_ERROR(memory.Close());                          // changes are in the file, windows are given back
//
// Not to be used while a step runs.
#ifndef MILLRACE_PIPELINES_RUNNER_STATE_MEMORY_H_
#define MILLRACE_PIPELINES_RUNNER_STATE_MEMORY_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/storage/page_memory.h"
#include "data/storage/storage_file.h"
#include "graph/runtime/buffers.h"

namespace millrace {

class StateMemory {
 public:
  // By rank; `files` may be empty when the plan has no storage tier. All outlive this object.
  StateMemory(const Plan& plan, std::vector<const RankBuffers*> buffers,
              std::vector<StorageFile*> files)
      : plan_(&plan), buffers_(std::move(buffers)), files_(std::move(files)) {}

  // Good until the next call for the same rank and role. `change`: what is written there will be kept.
  absl::StatusOr<char*> At(int rank, ValueId v, bool change);
  absl::Status Close();
  // All persistent buffers of all ranks.
  absl::Status Zero();

  const std::vector<const RankBuffers*>& buffers() const { return buffers_; }

 private:
  struct Window {
    ValueId value = -1;
    bool changed = false;
    PageMemory memory;
  };
  Tier TierOf(ValueId v) const {
    return plan_->graph.buffers()[plan_->graph.values()[v].buffer].tier;
  }
  absl::Status Load(int rank, ValueId v, void* to);
  absl::Status Store(int rank, ValueId v, const void* from);
  absl::Status Flush(int rank, Window* window);

  const Plan* plan_;
  std::vector<const RankBuffers*> buffers_;
  std::vector<StorageFile*> files_;
  std::map<std::pair<int, std::string>, Window> windows_;  // by rank and role
};

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_STATE_MEMORY_H_
