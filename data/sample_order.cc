#include "data/sample_order.h"

#include <numeric>
#include <utility>

namespace millrace {

std::vector<int64_t> EpochOrder(int64_t size, uint64_t seed, int64_t epoch, bool shuffle) {
  std::vector<int64_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (!shuffle) return order;
  // Fisher-Yates rather than a keyed (Feistel) permutation: every order is equally likely, and the
  // 8 bytes a sample that it keeps are little beside the samples.
  const CounterRng rng(seed, HashCombine(HashString("data.order"), static_cast<uint64_t>(epoch)));
  for (int64_t i = size - 1; i > 0; --i) {
    std::swap(order[i], order[rng.Below(static_cast<uint64_t>(i), static_cast<uint64_t>(i) + 1)]);
  }
  return order;
}

SampleKey KeyOf(uint64_t seed, int64_t epoch, int64_t sample) {
  const uint64_t stream = HashCombine(HashString("data.augment"), static_cast<uint64_t>(epoch));
  return {true, seed, HashCombine(stream, static_cast<uint64_t>(sample))};
}

CounterRng AugmentRng(uint64_t seed, int64_t epoch, int64_t sample) {
  return KeyOf(seed, epoch, sample).rng();
}

int64_t SampleKey::value() const {
  if (!random) return 0;
  const auto mixed = static_cast<int64_t>(HashCombine(HashCombine(stream, seed), 1));
  return mixed == 0 ? 1 : mixed;
}

}  // namespace millrace
