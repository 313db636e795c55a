// What the loader and the evaluation work on: a fixed number of samples, each a fixed set of named
// tensors of fixed shape, read by index. Labelled images (data/dataset_source.h), pictures with masks
// or boxes (data/picture_source.h) and random tensors (data/synthetic_source.h) are such sources.
//
//   const std::unique_ptr<SampleScratch> scratch = source.NewScratch();      // one for each thread
//   RETURN_IF_ERROR(source.Get(7, KeyOf(seed, epoch, 7), {image, label}, scratch.get()));
#ifndef MILLRACE_DATA_SAMPLE_SOURCE_H_
#define MILLRACE_DATA_SAMPLE_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "data/sample_order.h"
#include "graph/base/dtype.h"

namespace millrace {

// One tensor of one sample: a batch has the same with the number of samples in front.
struct FieldSpec {
  std::string name;  // "images", "labels", ...: models/model.h has the list
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  int64_t elements() const {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
  }
  int64_t bytes() const { return elements() * SizeOf(dtype); }
};

// "f32 [3, 64, 64]".
std::string ToText(const FieldSpec& field);

// Buffers that a source reuses from sample to sample.
class SampleScratch {
 public:
  virtual ~SampleScratch() = default;
};

// Thread-safe: all methods are const and may be called at the same time.
class SampleSource {
 public:
  virtual ~SampleSource() = default;
  virtual int64_t size() const = 0;
  virtual const std::vector<FieldSpec>& fields() const = 0;
  // One line for logs and messages: what it is and where it came from.
  virtual std::string description() const = 0;
  // What a person would look at when sample `index` is bad: its file, if it has one of its own.
  virtual std::string NameOf(int64_t index) const = 0;
  virtual std::unique_ptr<SampleScratch> NewScratch() const {
    return std::make_unique<SampleScratch>();
  }
  // Writes every field of sample `index` (0 .. size() - 1), fields()[i].bytes() to out[i]. The result
  // is a function of (index, key). An error leaves the fields in any state.
  virtual absl::Status Get(int64_t index, const SampleKey& key, absl::Span<void* const> out,
                           SampleScratch* scratch) const = 0;
};

}  // namespace millrace

#endif  // MILLRACE_DATA_SAMPLE_SOURCE_H_
