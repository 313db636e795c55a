// 2-core AMD EPYC VM, 2026-11-21, g++ 12.2, best of four runs while other builds were running.
// Images a second, all augmentations on, beside a bare memcpy of the same images (the bound):
//
//                                       1 x 8 x 8      3 x 32 x 32
//   memcpy                            126,000,000          216,000   (24 MB: memory, not cache)
//   everything                          2,300,000          127,000
//   flip, crop, normalise               6,500,000          581,000
//   everything, resize to half          1,900,000           95,000
//   loader, batch 64, 1 thread          1,160,000          115,000
//   loader, batch 64, 2 threads         1,370,000          187,000
//
// "Everything" is flip + crop + rotation + scale + shift + normalise. The warp is the work, 2.6 ns
// a pixel: four loads whose places no vector instruction of the baseline can gather. With -O2 in
// place of -O3, 32 x 32 falls to 65,000, and to 31,000 with the resize.
//
// An epoch's order takes 1.0 ms for 50,000 samples and 71 ms for 1,281,167, in the background.
// Synthetic pixels take 16 ns each: 512 images of 3 x 224 x 224 are 1.2 s before the first step.
#include <cstring>
#include <vector>

#include "benchmark/benchmark.h"
#include "data/augment.h"
#include "data/dataset_source.h"
#include "data/loader.h"
#include "data/open_dataset.h"

namespace millrace {
namespace {

ImageShape ShapeOf(int64_t side) {
  const int s = static_cast<int>(side);
  return {s == 8 ? 1 : 3, s, s};
}

std::shared_ptr<const Dataset> Data(const ImageShape& shape) {
  DatasetOptions options;
  options.kind = DatasetOptions::Kind::kSynthetic;
  options.shape = shape;
  options.classes = 10;
  options.count = 1024;
  return *OpenDataset(options);
}

AugmentOptions Everything() {
  AugmentOptions o;
  o.horizontal_flip_probability = 0.5;
  o.random_crop_padding = 2;
  o.rotation_degrees = 15;
  o.scale_min = 0.9, o.scale_max = 1.1;
  o.shift_fraction = 0.1;
  o.mean = {0.5f}, o.std = {0.25f};
  return o;
}

void Report(benchmark::State& state, const ImageShape& shape, int64_t images) {
  state.SetItemsProcessed(images);
  state.SetBytesProcessed(images * shape.elements() * static_cast<int64_t>(sizeof(float)));
}

// The bound: the same images, copied.
void BM_Memcpy(benchmark::State& state) {
  const ImageShape shape = ShapeOf(state.range(0));
  std::vector<float> from(1024 * shape.elements(), 1.0f), to(from.size());
  int64_t i = 0;
  for (auto _ : state) {
    const int64_t at = i++ % 1024 * shape.elements();
    std::memcpy(&to[at], &from[at], shape.elements() * sizeof(float));
    benchmark::ClobberMemory();
  }
  Report(state, shape, i);
}
BENCHMARK(BM_Memcpy)->Arg(8)->Arg(32);

void Augment(benchmark::State& state, const AugmentOptions& options) {
  const ImageShape shape = ShapeOf(state.range(0));
  const auto data = Data(shape);
  const Augmenter augmenter = *Augmenter::Create(options, shape);
  Augmenter::Scratch scratch;
  std::vector<float> from(shape.elements()), to(augmenter.output().elements());
  int64_t i = 0, label;
  for (auto _ : state) {
    benchmark::DoNotOptimize(data->Get(i % 1024, absl::MakeSpan(from), &label));
    augmenter.Train(from, AugmentRng(1, 0, i++), absl::MakeSpan(to), &scratch);
    benchmark::ClobberMemory();
  }
  Report(state, shape, i);
}

void BM_AugmentEverything(benchmark::State& state) { Augment(state, Everything()); }
BENCHMARK(BM_AugmentEverything)->Arg(8)->Arg(32);

void BM_AugmentFlipAndCrop(benchmark::State& state) {
  AugmentOptions options;
  options.horizontal_flip_probability = 0.5;
  options.random_crop_padding = 4;
  options.mean = {0.5f}, options.std = {0.25f};
  Augment(state, options);
}
BENCHMARK(BM_AugmentFlipAndCrop)->Arg(8)->Arg(32);

void BM_AugmentEverythingAndResizeToHalf(benchmark::State& state) {
  AugmentOptions options = Everything();
  options.resize_height = options.resize_width = static_cast<int>(state.range(0) / 2);
  Augment(state, options);
}
BENCHMARK(BM_AugmentEverythingAndResizeToHalf)->Arg(8)->Arg(32);

// The whole loader with the given threads, a batch of 64 taken by one rank that does nothing else.
void BM_Loader(benchmark::State& state) {
  const ImageShape shape = ShapeOf(state.range(0));
  LoaderOptions options;
  options.split.micro_batch = 64;
  options.threads = static_cast<int>(state.range(1));
  auto loader = *Loader::Create(*MakeDatasetSource(Data(shape), Everything()), options);
  std::vector<float> images(64 * shape.elements());
  std::vector<int64_t> labels(64);
  int64_t taken = 0;
  for (auto _ : state) {
    if (!loader->Next(0, 0, {images.data(), labels.data()}).ok()) state.SkipWithError("loader");
    taken += 64;
  }
  Report(state, shape, taken);
}
BENCHMARK(BM_Loader)->Args({8, 1})->Args({8, 2})->Args({32, 1})->Args({32, 2})->UseRealTime();

void BM_EpochOrder(benchmark::State& state) {
  int64_t epoch = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(EpochOrder(state.range(0), 1, epoch++, true));
  }
  state.SetItemsProcessed(epoch * state.range(0));
}
BENCHMARK(BM_EpochOrder)->Arg(50000)->Arg(1281167)->Unit(benchmark::kMillisecond);

void BM_SyntheticPixels(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(Data({3, 32, 32}));
  state.SetItemsProcessed(state.iterations() * 1024 * 3072);
}
BENCHMARK(BM_SyntheticPixels)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace millrace
