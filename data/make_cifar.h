// Writes a small data set in CIFAR-100's binary layout, so that pipelines and tests have colour
// images to learn from where the real archive (163 MB) is not at hand.
//
// Every fine class is a striped texture: its coarse class (fine / 5) chooses the two colours, its
// place within it the direction and width of the stripes. Images of a class differ in phase,
// brightness, contrast and noise, so a network has something to generalise over.
//
//   MakeCifarOptions options;
//   options.directory = "cifar";
//   RETURN_IF_ERROR(MakeCifar(options));         // then read "cifar/train.bin" as Kind::kCifar100
#ifndef MILLRACE_DATA_MAKE_CIFAR_H_
#define MILLRACE_DATA_MAKE_CIFAR_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace millrace {

struct MakeCifarOptions {
  std::string directory;  // made when missing
  int64_t train_images = 5000;
  int64_t test_images = 1000;
  // Fine classes 0 .. classes - 1 occur, all (nearly) equally often. 1..100.
  int classes = 100;
  uint64_t seed = 0;
};

// Writes train.bin, test.bin, fine_label_names.txt and coarse_label_names.txt: each under a
// temporary name, synced and renamed, the name lists last, so that an interrupted run leaves no
// half file. The same options give the same bytes.
absl::Status MakeCifar(const MakeCifarOptions& options);

}  // namespace millrace

#endif  // MILLRACE_DATA_MAKE_CIFAR_H_
