// What the loader and the evaluation need from a data set: a fixed number of labelled images of one
// shape, read by index. Readers of files and the synthetic generator implement it;
// data/open_dataset.h opens one from options.
//
//   DatasetOptions options;
//   options.kind = DatasetOptions::Kind::kIdx;
//   options.images = "data/digits/images.idx3-ubyte";
//   options.labels = "data/digits/labels.idx1-ubyte";
//   options.scale = 16;                                  // pixels are 0..16
//   options.first = 0, options.count = 1500;             // the training part
//   ASSIGN_OR_RETURN(std::shared_ptr<const Dataset> train, OpenDataset(options));
#ifndef MILLRACE_DATA_DATASET_H_
#define MILLRACE_DATA_DATASET_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace millrace {

struct ImageShape {
  int channels = 1;
  int height = 0;
  int width = 0;
  int64_t elements() const { return int64_t{channels} * height * width; }
  bool operator==(const ImageShape& o) const {
    return channels == o.channels && height == o.height && width == o.width;
  }
  bool operator!=(const ImageShape& o) const { return !(*this == o); }
};

// Thread-safe: all methods are const and may be called at the same time.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  virtual ImageShape shape() const = 0;
  // Labels are 0 .. classes() - 1.
  virtual int classes() const = 0;
  // One line for logs and messages: what it is and where it came from.
  virtual std::string description() const = 0;
  // Writes sample `index` (0 .. size() - 1): shape().elements() pixels in channel, row, column
  // order, scaled to [0, 1] for files of bytes, and its label.
  virtual absl::Status Get(int64_t index, absl::Span<float> pixels, int64_t* label) const = 0;
};

struct DatasetOptions {
  enum class Kind { kIdx, kCifar10, kCifar100, kSynthetic };
  Kind kind = Kind::kIdx;

  // IDX: one file of images, one of labels.
  std::string images;
  std::string labels;
  // CIFAR: binary files, read as one data set in this order ("train.bin", or "data_batch_1.bin",
  // ...).
  std::vector<std::string> files;
  // CIFAR-100: the 20 coarse labels in place of the 100 fine ones.
  bool coarse_labels = false;

  // The part of the samples that this data set has: `count` from `first` on; -1: all that follow.
  // For synthetic data `count` is how many are generated, and different parts hold different
  // images.
  int64_t first = 0;
  int64_t count = -1;

  // The largest value that a pixel byte can have; pixels are divided by it.
  float scale = 255;
  // 0: what the files say (IDX: the largest label of the whole file + 1). A given number is
  // checked. Synthetic data needs it.
  int classes = 0;

  // Synthetic only.
  ImageShape shape;
  uint64_t seed = 0;
};

}  // namespace millrace

#endif  // MILLRACE_DATA_DATASET_H_
