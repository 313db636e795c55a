// Which samples belong to which step, rank and micro-batch: pure arithmetic, kept apart from the
// threads of the loader so that it can be read, tested and used by itself.
//
// An epoch is a permutation of the data set, a function of (seed, epoch). Global batch g of the
// epoch is elements g G .. (g + 1) G - 1 of it, G = micro_batch * accumulation * world_size.
// Element j of a global batch goes to micro-batch j / (micro_batch * world_size) of rank (j /
// micro_batch) % world_size:
//
//   micro_batch 2, world_size 2, accumulation 2:   j = 0 1 | 2 3 | 4 5 | 6 7
//                                               rank = 0   | 1   | 0   | 1
//                                        micro-batch = 0   | 0   | 1   | 1
//
// So a step's samples do not depend on how G is split, and with the same micro_batch even the
// groups that are computed together are the same for every world size.
#ifndef MILLRACE_DATA_SAMPLE_ORDER_H_
#define MILLRACE_DATA_SAMPLE_ORDER_H_

#include <cstdint>
#include <vector>

#include "graph/base/random.h"

namespace millrace {

struct BatchSplit {
  int64_t micro_batch = 1;
  int accumulation = 1;
  int world_size = 1;

  int64_t global_batch() const { return micro_batch * accumulation * world_size; }
  // The first of the `micro_batch` consecutive elements of the global batch that this rank's
  // micro-batch consists of.
  int64_t FirstElement(int rank, int micro) const {
    return (int64_t{micro} * world_size + rank) * micro_batch;
  }
};

// The order of the samples 0 .. size - 1 in this epoch; `shuffle` false: as they lie in the file.
std::vector<int64_t> EpochOrder(int64_t size, uint64_t seed, int64_t epoch, bool shuffle);

// The generator that augments one sample in one epoch.
CounterRng AugmentRng(uint64_t seed, int64_t epoch, int64_t sample);

// What may be random about a sample: nothing (evaluation), or a function of (seed, epoch, sample).
struct SampleKey {
  bool random = false;
  uint64_t seed = 0, stream = 0;
  // AugmentRng's. Only where `random`.
  CounterRng rng() const { return CounterRng(seed, stream); }
  // One number for models that draw their own (dropout); 0 where nothing is random, never otherwise.
  int64_t value() const;
};
SampleKey KeyOf(uint64_t seed, int64_t epoch, int64_t sample);

}  // namespace millrace

#endif  // MILLRACE_DATA_SAMPLE_ORDER_H_
