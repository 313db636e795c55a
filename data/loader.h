// Prepares the batches of training in background threads while the step computes. One loader serves
// all ranks of the process: a global batch is read and augmented once, and each rank copies out its
// part.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Loader> loader, Loader::Create(train, options, saved_state));
//   for each step, on every rank's thread:
//     for (int m = 0; m < accumulation; ++m) {
//       RETURN_IF_ERROR(loader->Next(rank, m, {images, labels}));
//     }
//   checkpoint: save loader->state()
//
// What a batch holds is a function of (data set, seed, epoch, place in the epoch) and the global
// batch size alone - not of threads, prefetch, ranks or restarts; data/sample_order.h has the rule.
// An epoch visits every sample at most once; what does not fill a last global batch is dropped, or
// with drop_last = false that batch is filled up with the first samples of the same epoch's order.
//
// An error (a file that cannot be read) is reported by the batch that it belongs to, not earlier,
// by the same sample whatever the number of threads, and again if that batch is asked for again. With
// on_error kSkip the next good sample of the epoch's order takes the place of one that cannot be read:
// again a function of the data alone.
#ifndef MILLRACE_DATA_LOADER_H_
#define MILLRACE_DATA_LOADER_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/bad_samples.h"
#include "data/sample_order.h"
#include "data/sample_source.h"

namespace millrace {

struct LoaderOptions {
  BatchSplit split;
  // The ranks that live in this process: only their samples are prepared. 0 ranks: all of them.
  int first_local_rank = 0;
  int local_ranks = 0;

  uint64_t seed = 0;
  bool shuffle = true;
  bool drop_last = true;

  int threads = 1;
  // Global batches that may be ready or in work at once. 2 lets the next one be prepared while the
  // micro-batches of the current one are still being taken.
  int prefetch = 2;

  OnError on_error = OnError::kFail;
  // Told of every sample left out, once, by whichever thread met it. kSkip only.
  BadSamples::Report report_bad;
};

// The next global batch that training takes: what a checkpoint keeps. Only valid for the data set
// and global batch size that it was saved with; ranks and micro-batches may change.
struct LoaderState {
  int64_t epoch = 0;
  int64_t batch = 0;
  bool operator==(const LoaderState& o) const { return epoch == o.epoch && batch == o.batch; }
};

class Loader {
 public:
  // kInvalidArgument names all mistakes of the options at once: sizes below 1, a data set smaller
  // than one global batch, a state beyond the end of the epoch.
  static absl::StatusOr<std::unique_ptr<Loader>> Create(std::shared_ptr<const SampleSource> source,
                                                        const LoaderOptions& options,
                                                        LoaderState start = {});
  // Ends the threads after the sample each is working on.
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // Copies the next batch of (rank, micro_batch) to one tensor for each field of the source,
  // [micro_batch, the field's shape], waiting for it if need be. Each (rank, micro_batch) is asked for
  // once in every step, in any order and from any thread, but never the same pair from two threads at
  // once. A rank may run ahead of the others by `prefetch` global batches and then waits for them: a
  // caller that serves all ranks by one thread must keep to that.
  absl::Status Next(int rank, int micro_batch, absl::Span<void* const> tensors);

  // The oldest global batch of which some part has not been taken. Prepared batches do not count as
  // taken, so training resumed from here misses and repeats nothing.
  LoaderState state() const;
  // The state `batches` global batches after `from`; a trainer that knows its step needs no
  // state().
  LoaderState After(LoaderState from, int64_t batches) const;
  // Goes on from `state` for all ranks. No Next may be waiting or running.
  absl::Status Seek(LoaderState state);
  // Ends preparation; Next returns kCancelled from now on, also where it is waiting already.
  void Stop();

  const SampleSource& source() const;
  // What was left out so far. kSkip only.
  const BadSamples& bad_samples() const;
  int64_t global_batch() const;
  int64_t batches_per_epoch() const;
  // Host memory of the prepared batches, for the memory plan.
  int64_t buffer_bytes() const;

 private:
  class Impl;
  explicit Loader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace

#endif  // MILLRACE_DATA_LOADER_H_
