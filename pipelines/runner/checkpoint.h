// Checkpoints: a folder per saved step that appears whole or not at all.
//
//   <run>/checkpoints/step-00000020/
//     model.safetensors       parameters under the public checkpoint's names, in their own element type
//     optimizer.safetensors   exp_avg.<name>, exp_avg_sq.<name> or momentum.<name>; of parameters in 16 bits
//                             master.<name>; loss_scale where there is one
//     state.json              step, position in the data, seed, optimizer, fingerprint of the weights
//
// Everything is written into a folder with a temporary name, synced and renamed; only then are the oldest
// beyond `keep` deleted. Random numbers are functions of (seed, epoch, sample) or (seed, name), so seed and
// position are the whole random state; the learning rate is a function of the step. Tensors are stored whole,
// so a checkpoint loads under any ZeRO stage and world size.
#ifndef MILLRACE_PIPELINES_RUNNER_CHECKPOINT_H_
#define MILLRACE_PIPELINES_RUNNER_CHECKPOINT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/base/findings.h"
#include "pipelines/runner/model_state.h"

namespace millrace {

// Where a run stands, apart from its tensors.
struct RunPosition {
  int64_t step = 0;   // finished optimizer steps
  int64_t epoch = 0;  // the next global batch is `batch` of `epoch`
  int64_t batch = 0;
  int64_t seed = 0;
  int64_t global_batch = 0;
  std::string pipeline;   // name, for the reader
  std::string optimizer;  // "ADAMW"; states of one optimizer mean nothing to another
};

// Writes the checkpoint of `position.step` under `folder` and deletes all but the newest `keep`. Returns its path.
absl::StatusOr<std::string> SaveCheckpoint(const std::string& folder, const ModelState& state,
                                           const RunPosition& position, int keep);

// Loads tensors into `state` and returns the position. `path` is a step folder, or a folder of them (the newest
// is taken). Every missing, surplus or misshapen tensor is reported, all at once; nothing is changed then. A checkpoint
// of another optimizer than `optimizer` ("ADAMW") is refused as a whole.
absl::StatusOr<RunPosition> LoadCheckpoint(const std::string& path, const std::string& optimizer,
                                           const ModelState& state);

// The newest complete step folder under `folder`; kNotFound names the folder and says what was looked for.
absl::StatusOr<std::string> NewestCheckpoint(const std::string& folder);

// Parameters alone, by name, from a safetensors file of f32, bf16 or f16. In 16 bits, the masters get what the file
// has, the parameters that rounded.
absl::Status LoadWeights(const std::string& file, const ModelState& state);

// What LoadWeights would say of the file: parameters that it lacks, or has in another shape.
void CheckParameters(const std::string& file, const std::vector<ModelState::Tensor>& params,
                     Findings* findings);

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_CHECKPOINT_H_
