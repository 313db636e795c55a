// JPEG files of about 600 x 450 to 256 x 256 training tensors beside libjpeg-turbo's bare decoding of the
// same files to bytes of their full size: images a second of one core.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

// jpeglib.h needs stdio's types before it.
#include <jpeglib.h>

#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "data/file.h"
#include "data/image/codec.h"
#include "data/make_isic.h"
#include "data/picture_source.h"

namespace millrace {
namespace {

constexpr int kFiles = 24;
constexpr int kSide = 256;

// In memory as the disk cache has them.
struct Files {
  std::string folder;
  std::vector<std::vector<uint8_t>> bytes;
  PictureSet set;
};

const Files& TheFiles() {
  static const Files* const files = [] {
    auto* f = new Files;
    f->folder = absl::StrCat("/tmp/millrace_decode_benchmark.", getpid());
    if (!MakeDirectories(f->folder).ok()) std::abort();
    f->set.name = "benchmark";
    for (int i = 0; i < kFiles; ++i) {
      f->bytes.push_back(*EncodeJpeg(DrawSkin(1, i, 590, 610).image, 90));
      const std::string path = absl::StrCat(f->folder, "/", i, ".jpg");
      if (!WriteFile(path, f->bytes.back()).ok()) std::abort();
      Picture picture;
      picture.image = path;
      f->set.pictures.push_back(picture);
    }
    return f;
  }();
  return *files;
}

// What any program that uses the library does at the least.
void BM_BareDecode(benchmark::State& state) {
  const Files& files = TheFiles();
  std::vector<uint8_t> pixels;
  int64_t i = 0;
  for (auto _ : state) {
    const std::vector<uint8_t>& bytes = files.bytes[i++ % kFiles];
    jpeg_decompress_struct info;
    jpeg_error_mgr errors;
    info.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&info);
    jpeg_mem_src(&info, bytes.data(), bytes.size());
    jpeg_read_header(&info, TRUE);
    info.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info);
    const size_t stride = size_t{3} * info.output_width;
    pixels.resize(stride * info.output_height);
    while (info.output_scanline < info.output_height) {
      JSAMPROW row = pixels.data() + info.output_scanline * stride;
      jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
    jpeg_destroy_decompress(&info);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(i);
}
BENCHMARK(BM_BareDecode)->Unit(benchmark::kMillisecond);

void Samples(benchmark::State& state, const PictureSourceOptions& options) {
  const auto source =
      *MakePictureSource(TheFiles().set, {{"images", DType::kF32, {3, kSide, kSide}}}, options);
  const auto scratch = source->NewScratch();
  std::vector<float> image(3 * kSide * kSide);
  int64_t i = 0;
  for (auto _ : state) {
    if (!source->Get(i % kFiles, KeyOf(1, 0, i), {image.data()}, scratch.get()).ok()) {
      state.SkipWithError("a file cannot be read");
    }
    ++i;
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(i);
}

PictureSourceOptions Normalised() {
  PictureSourceOptions o;
  o.augment.mean = {0.485f, 0.456f, 0.406f};
  o.augment.std = {0.229f, 0.224f, 0.225f};
  return o;
}

void BM_Resize(benchmark::State& state) { Samples(state, Normalised()); }
BENCHMARK(BM_Resize)->Unit(benchmark::kMillisecond);

// Flip, window and colour, as classification and detection are usually trained.
void BM_FlipCropColour(benchmark::State& state) {
  PictureSourceOptions o = Normalised();
  o.augment.horizontal_flip = 0.5;
  o.augment.crop_area_min = 0.6;
  o.augment.brightness = o.augment.contrast = o.augment.saturation = 0.2;
  Samples(state, o);
}
BENCHMARK(BM_FlipCropColour)->Unit(benchmark::kMillisecond);

void BM_Everything(benchmark::State& state) {
  PictureSourceOptions o = Normalised();
  o.augment.horizontal_flip = o.augment.vertical_flip = 0.5;
  o.augment.rotation_degrees = 30;
  o.augment.scale_min = 0.9, o.augment.scale_max = 1.1;
  o.augment.brightness = o.augment.contrast = o.augment.saturation = 0.2;
  Samples(state, o);
}
BENCHMARK(BM_Everything)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace millrace
