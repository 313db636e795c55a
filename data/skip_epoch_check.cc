// A whole epoch over 10,000 small generated pictures of which 20 are bad (cut off, empty, no image, a
// missing mask) and ten are good but grey, with bad files left out. Prints what was
// found and how long it took; exit code 0 when all 20 were reported and every place of the epoch was filled.
//
//   ./bazelw run //data:skip_epoch_check -- FOLDER            about 100 MB; the folder is kept
#include <chrono>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "data/file.h"
#include "data/image/codec.h"
#include "data/isic.h"
#include "data/loader.h"
#include "data/make_isic.h"
#include "data/picture_source.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

constexpr int64_t kPictures = 10000;
constexpr int64_t kBatch = 50;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

absl::StatusOr<std::set<int64_t>> Spoil(const PictureSet& set) {
  std::set<int64_t> bad;
  for (int64_t k = 0; k < 20; ++k) {
    const int64_t index = 137 + k * 491;
    const Picture& picture = set.pictures[index];
    bad.insert(index);
    ASSIGN_OR_RETURN(std::vector<uint8_t> bytes, ReadFile(picture.image, ""));
    if (k % 4 == 0) bytes.resize(bytes.size() * 2 / 3);
    if (k % 4 == 1) bytes.clear();
    if (k % 4 == 2) bytes.assign({'n', 'o', ' ', 'i', 'm', 'a', 'g', 'e'});
    if (k % 4 == 3) RETURN_IF_ERROR(RemoveFile(picture.mask));
    RETURN_IF_ERROR(WriteFile(picture.image, bytes));
  }
  for (int64_t index = 60; index < kPictures; index += 1000) {  // grey: good
    ByteImage grey;
    ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, ReadFile(set.pictures[index].image, ""));
    RETURN_IF_ERROR(DecodeImage(bytes, "", {1}, &grey));
    ASSIGN_OR_RETURN(const std::vector<uint8_t> again, EncodeJpeg(grey, 90));
    RETURN_IF_ERROR(WriteFile(set.pictures[index].image, again));
  }
  return bad;
}

absl::Status Check(const std::string& folder) {
  MakeIsicOptions make;
  make.directory = folder;
  make.train_images = kPictures, make.val_images = make.test_images = 0;
  make.min_side = 32, make.max_side = 64;
  double began = Now();
  RETURN_IF_ERROR(MakeIsic(make));
  std::printf("generated %d pictures in %.1f s\n", static_cast<int>(kPictures), Now() - began);
  ASSIGN_OR_RETURN(PictureSet set, ReadIsic({folder, "", "train", /*missing_is_error=*/false}));
  ASSIGN_OR_RETURN(const std::set<int64_t> expected, Spoil(set));
  const std::vector<FieldSpec> fields = {{"images", DType::kF32, {3, 32, 32}},
                                         {"masks", DType::kU8, {32, 32}},
                                         {"keys", DType::kI64, {}}};
  ASSIGN_OR_RETURN(const auto source, MakePictureSource(std::move(set), fields, {}));
  std::map<int64_t, int64_t> sample_of_key;
  LoaderOptions options;
  options.split.micro_batch = kBatch;
  options.on_error = OnError::kSkip;
  for (int64_t i = 0; i < kPictures; ++i) {
    sample_of_key[KeyOf(options.seed, 0, i).value()] = i;
  }
  ASSIGN_OR_RETURN(const auto loader, Loader::Create(source, options));
  std::vector<float> images(kBatch * 3 * 32 * 32);
  std::vector<uint8_t> masks(kBatch * 32 * 32);
  std::vector<int64_t> keys(kBatch);
  std::set<int64_t> seen;
  began = Now();
  for (int64_t b = 0; b < loader->batches_per_epoch(); ++b) {
    RETURN_IF_ERROR(loader->Next(0, 0, {images.data(), masks.data(), keys.data()}));
    for (const int64_t key : keys) seen.insert(sample_of_key.at(key));
  }
  const double seconds = Now() - began;
  std::set<int64_t> reported;
  for (const BadSample& bad : loader->bad_samples().list()) {
    reported.insert(bad.index);
    std::printf("  %s\n", bad.message.c_str());
  }
  std::printf("%d places filled, %d bad files reported, %.1f s (%.0f pictures a second)\n",
              static_cast<int>(seen.size()), static_cast<int>(reported.size()), seconds,
              kPictures / seconds);
  if (reported != expected) return absl::InternalError("other files were reported than spoiled");
  if (static_cast<int64_t>(seen.size()) != kPictures) {
    return absl::InternalError("some places of the epoch were not filled");
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: skip_epoch_check FOLDER\n");
    return 2;
  }
  const absl::Status status = millrace::Check(argv[1]);
  if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
