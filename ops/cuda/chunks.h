// One launch over many ranges: each block takes a chunk of one of them. The tables are made once, when the step is
// prepared, and lie in device memory.
//
//   std::vector<OptimizerRun> runs = ...;                 // anything with a `count` of elements
//   std::vector<Chunk> chunks = Chunks(runs);             // both are written to the device; blocks = chunks.size()
#ifndef MILLRACE_OPS_CUDA_CHUNKS_H_
#define MILLRACE_OPS_CUDA_CHUNKS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

namespace millrace {
namespace cuda {

struct Chunk {
  int64_t begin = 0;  // element of the range
  int32_t item = 0;   // which range
  int32_t count = 0;  // elements
};

constexpr int64_t kChunkElements = 8192;

template <typename Item>
std::vector<Chunk> Chunks(const std::vector<Item>& items) {
  std::vector<Chunk> chunks;
  for (size_t i = 0; i < items.size(); ++i) {
    for (int64_t begin = 0; begin < items[i].count; begin += kChunkElements) {
      const int64_t count = std::min<int64_t>(kChunkElements, items[i].count - begin);
      chunks.push_back({begin, static_cast<int32_t>(i), static_cast<int32_t>(count)});
    }
  }
  return chunks;
}

}  // namespace cuda
}  // namespace millrace

#endif  // MILLRACE_OPS_CUDA_CHUNKS_H_
