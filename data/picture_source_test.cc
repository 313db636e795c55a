#include "data/picture_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "data/coco.h"
#include "data/image/codec.h"
#include "data/isic.h"
#include "data/loader.h"
#include "data/make_coco.h"
#include "data/make_isic.h"
#include "data/test_files.h"

namespace millrace {
namespace {

std::string MakeSkins(int64_t train = 6) {
  MakeIsicOptions options;
  options.directory = TestPath("isic");
  options.train_images = train, options.val_images = 2, options.test_images = 1;
  options.min_side = 40, options.max_side = 90;
  EXPECT_TRUE(MakeIsic(options).ok());
  return options.directory;
}

std::string MakeScenes() {
  MakeCocoOptions options;
  options.directory = TestPath("coco");
  options.train_images = 40, options.val_images = 2;
  options.min_side = 48, options.max_side = 90;
  EXPECT_TRUE(MakeCoco(options).ok());
  return options.directory;
}

PictureSet Isic(const std::string& folder, bool missing_is_error = true) {
  auto set = ReadIsic({folder, "", "train", missing_is_error});
  EXPECT_TRUE(set.ok()) << set.status();
  return *std::move(set);
}

PictureSet Coco(const std::string& folder) {
  auto set = ReadCoco({folder + "/annotations/instances_train2017.json", folder + "/train2017"});
  EXPECT_TRUE(set.ok()) << set.status();
  return *std::move(set);
}

FieldSpec Images(int64_t h, int64_t w, int scale = 0, int64_t channels = 3) {
  return {scale == 0 ? "images" : absl::StrCat("images.", scale), DType::kF32, {channels, h, w}};
}
FieldSpec Masks(int64_t h, int64_t w, int scale = 0) {
  return {scale == 0 ? "masks" : absl::StrCat("masks.", scale), DType::kU8, {h, w}};
}

// All fields of one sample.
struct Sample {
  std::vector<std::vector<uint8_t>> bytes;
  std::vector<void*> out;
  explicit Sample(const SampleSource& source) {
    for (const FieldSpec& f : source.fields()) bytes.emplace_back(f.bytes());
    for (auto& b : bytes) out.push_back(b.data());
  }
  const float* floats(int f) const { return reinterpret_cast<const float*>(bytes[f].data()); }
  const int64_t* integers(int f) const { return reinterpret_cast<const int64_t*>(bytes[f].data()); }
};

Sample Read(const SampleSource& source, int64_t index, const SampleKey& key = {}) {
  Sample sample(source);
  const auto scratch = source.NewScratch();
  const absl::Status status = source.Get(index, key, sample.out, scratch.get());
  EXPECT_TRUE(status.ok()) << status;
  return sample;
}

std::shared_ptr<const PictureSource> Make(PictureSet set, const std::vector<FieldSpec>& fields,
                                          const PictureSourceOptions& options = {}) {
  auto source = MakePictureSource(std::move(set), fields, options);
  EXPECT_TRUE(source.ok()) << source.status();
  return *source;
}

TEST(Isic, NonSquarePicturesAndMasksAtThreeScalesWithOddSizes) {
  const auto source = Make(Isic(MakeSkins()), {Images(33, 47),
                                               Masks(33, 47),
                                               Images(16, 24, 1),
                                               Masks(16, 24, 1),
                                               Images(9, 11, 2),
                                               Masks(9, 11, 2),
                                               {"spacing", DType::kF32, {3, 2}},
                                               {"keys", DType::kI64, {}}});
  EXPECT_EQ(source->size(), 6);
  for (int64_t i = 0; i < source->size(); ++i) {
    const Sample s = Read(*source, i);
    // The mask is where the picture is dark (the lesion) at every scale.
    for (const int scale : {0, 2}) {
      const FieldSpec& field = source->fields()[2 * scale];
      const int64_t pixels = field.shape[1] * field.shape[2];
      double sum[2] = {0, 0};
      int64_t count[2] = {0, 0};
      for (int64_t p = 0; p < pixels; ++p) {
        const uint8_t m = s.bytes[2 * scale + 1][p];
        ASSERT_LE(m, 1);
        const float blue = s.floats(2 * scale)[2 * pixels + p];
        ASSERT_TRUE(blue >= 0 && blue <= 1) << blue;
        sum[m] += blue;
        ++count[m];
      }
      EXPECT_GT(count[1], 0);
      EXPECT_LT(sum[1] / count[1] + 0.05, sum[0] / count[0]);
    }
    const Picture& picture = source->set().pictures[i];
    ByteImage image;
    ASSERT_TRUE(DecodeImage(*ReadFile(picture.image, ""), "", {}, &image).ok());
    const double fy = image.height / 33.0, fx = image.width / 47.0, unit = std::sqrt(fy * fx);
    EXPECT_NEAR(s.floats(6)[0], fy / unit, 1e-5);
    EXPECT_NEAR(s.floats(6)[1], fx / unit, 1e-5);
    EXPECT_NEAR(s.floats(6)[2], image.height / 16.0 / unit, 1e-5);
    EXPECT_NEAR(s.floats(6)[5], image.width / 11.0 / unit, 1e-5);
    EXPECT_EQ(s.integers(7)[0], 0);
    EXPECT_NE(Read(*source, i, KeyOf(1, 0, i)).integers(7)[0], 0);
  }
}

TEST(Isic, AMaskOfAnotherSizeThanItsPictureIsTheSameMask) {
  const std::string folder = MakeSkins();
  const std::vector<FieldSpec> fields = {Images(24, 24), Masks(24, 24)};
  const auto source = Make(Isic(folder), fields);
  const Sample before = Read(*source, 2);
  // Twice and three times as large, by repetition.
  ByteImage mask = *source->Mask(2);
  ByteImage large(mask.height * 2, mask.width * 3, 1);
  for (int y = 0; y < large.height; ++y) {
    for (int x = 0; x < large.width; ++x) *large.at(y, x) = *mask.at(y / 2, x / 3) * 255;
  }
  ASSERT_TRUE(WriteFileAtomically(source->set().pictures[2].mask, *EncodePng(large)).ok());
  EXPECT_EQ(Read(*source, 2).bytes[1], before.bytes[1]);
}

TEST(Isic, PicturesAndMasksMoveTogetherUnderEveryRandomChange) {
  const std::string folder = MakeSkins(3);
  // A picture whose pixels are its mask: whatever happens, both must still agree.
  PictureSet set = Isic(folder);
  for (const Picture& p : set.pictures) {
    ByteImage mask;
    ASSERT_TRUE(DecodeImage(*ReadFile(p.mask, ""), "", {1}, &mask).ok());
    ASSERT_TRUE(WriteFileAtomically(p.image, *EncodeJpeg(mask, 98)).ok());
  }
  PictureSourceOptions options;
  JointAugmentOptions& a = options.augment;
  a.horizontal_flip = a.vertical_flip = 0.5;
  a.rotation_degrees = 180;
  a.scale_min = 0.7, a.scale_max = 1.4;
  a.shift_pixels = 6;
  a.crop_area_min = 0.4, a.crop_aspect = 1.5;
  const auto source = Make(set, {Images(48, 40), Masks(48, 40)}, options);
  int moved = 0;
  for (int64_t i = 0; i < source->size(); ++i) {
    const Sample still = Read(*source, i);
    for (int epoch = 0; epoch < 12; ++epoch) {
      const Sample s = Read(*source, i, KeyOf(5, epoch, i));
      moved += s.bytes[1] != still.bytes[1];
      int differ = 0, near_border = 0;
      for (int p = 0; p < 48 * 40; ++p) {
        const float v = s.floats(0)[p];
        near_border += v > 0.15 && v < 0.85;
        differ += (v > 0.5f) != (s.bytes[1][p] == 1) && (v < 0.15 || v > 0.85);
      }
      EXPECT_LE(differ, 6) << "sample " << i << ", epoch " << epoch;
      EXPECT_EQ(Read(*source, i, KeyOf(5, epoch, i)).bytes, s.bytes) << "the key decides";
    }
  }
  EXPECT_GT(moved, 30);
}

TEST(Isic, EverythingWrongWithTheFolderIsReportedAtOnceByName) {
  const std::string folder = MakeSkins();
  ASSERT_TRUE(RemoveFile(folder + "/masks/ISIC_0000001_segmentation.png").ok());
  ASSERT_TRUE(RemoveFile(folder + "/images/ISIC_0000004.jpg").ok());
  const std::string splits = folder + "/twice.json";
  ASSERT_TRUE(
      WriteFileAtomically(splits, R"({"train": ["ISIC_0000000", "ISIC_0000001", "ISIC_0000004.jpg",
                                        "ISIC_0000000", 7, "ISIC_0000009"],
                              "val": ["ISIC_0000000"], "spacing": {"ISIC_0000000": -1}})")
          .ok());
  ExpectError(ReadIsic({folder, splits}).status(), absl::StatusCode::kInvalidArgument,
              {"ISIC_0000000 is twice in 'train'", "in 'train' and in 'val'", "holds 7",
               "ISIC_0000001_segmentation.png: no such file", "ISIC_0000004.jpg: no such file",
               "ISIC_0000009.jpg: no such file", "spacing of ISIC_0000000 is -1",
               "given for 1 of the 4 pictures", "on_error: SKIP"});
  ExpectError(ReadIsic({folder, "", "training"}).status(), absl::StatusCode::kInvalidArgument,
              {"has no part 'training'", "test, train, val"});
  ExpectError(ReadIsic({folder + "/none"}).status(), absl::StatusCode::kNotFound,
              {"splits.json", "data make --format isic"});
}

TEST(Isic, GivenSpacingIsAbsolute) {
  const std::string folder = MakeSkins(2);
  ASSERT_TRUE(WriteFileAtomically(folder + "/splits.json",
                                  R"({"train": ["ISIC_0000000", "ISIC_0000001"],
                                      "spacing": {"ISIC_0000000": [0.1, 0.2],
                                                  "ISIC_0000001": 0.5}})")
                  .ok());
  const auto source = Make(Isic(folder), {Images(20, 20), {"spacing", DType::kF32, {1, 2}}});
  ByteImage image;
  ASSERT_TRUE(DecodeImage(*ReadFile(source->set().pictures[0].image, ""), "", {}, &image).ok());
  const Sample s = Read(*source, 0);
  EXPECT_NEAR(s.floats(1)[0], 0.1 * image.height / 20, 1e-5);
  EXPECT_NEAR(s.floats(1)[1], 0.2 * image.width / 20, 1e-5);
}

TEST(Isic, BadFilesAreErrorsThatNameThemOrAreSkippedAndAllReported) {
  const std::string folder = MakeSkins(30);
  const auto image = [&](int i) {
    return absl::StrCat(folder, "/images/ISIC_", absl::Dec(i, absl::kZeroPad7), ".jpg");
  };
  const auto bytes = [&](int i) { return *ReadFile(image(i), ""); };
  // Good ones of an unusual kind: grey.
  ByteImage grey;
  ASSERT_TRUE(DecodeImage(bytes(5), "", {1}, &grey).ok());
  ASSERT_TRUE(WriteFileAtomically(image(5), *EncodeJpeg(grey, 90)).ok());
  // Bad ones.
  std::vector<uint8_t> cut = bytes(1);
  cut.resize(cut.size() / 2);
  ASSERT_TRUE(WriteFileAtomically(image(1), cut).ok());
  ASSERT_TRUE(WriteFileAtomically(image(7), absl::string_view("<html>")).ok());
  ASSERT_TRUE(WriteFileAtomically(image(11), absl::string_view("")).ok());
  ASSERT_TRUE(RemoveFile(image(20)).ok());
  ASSERT_TRUE(RemoveFile(folder + "/masks/ISIC_0000025_segmentation.png").ok());
  const auto source =
      Make(Isic(folder, /*missing_is_error=*/false), {Images(16, 16), Masks(16, 16)});
  Sample sample(*source);
  const auto scratch = source->NewScratch();
  const std::pair<int, const char*> errors[] = {{1, "0000001.jpg: damaged or cut off"},
                                                {7, "0000007.jpg: is neither JPEG nor PNG"},
                                                {11, "0000011.jpg: is empty"},
                                                {20, "0000020.jpg: no such file"},
                                                {25, "0000025_segmentation.png: no such file"}};
  for (const auto& [index, part] : errors) {
    const absl::Status status = source->Get(index, {}, sample.out, scratch.get());
    EXPECT_NE(status.message().find(part), absl::string_view::npos) << status;
  }
  LoaderOptions options;
  options.split.micro_batch = 1;
  options.threads = 3;
  options.on_error = OnError::kSkip;
  auto loader = *Loader::Create(source, options);
  for (int64_t b = 0; b < loader->batches_per_epoch(); ++b) {
    ASSERT_TRUE(loader->Next(0, 0, sample.out).ok());
  }
  const auto bad = loader->bad_samples().list();
  ASSERT_EQ(bad.size(), 5u);
  for (size_t i = 0; i < bad.size(); ++i) EXPECT_EQ(bad[i].index, errors[i].first);
}

TEST(Coco, BoxesMoveWithThePictureAndPicturesWithoutObjectsAreSamples) {
  const int64_t m = 8;
  const std::vector<FieldSpec> fields = {
      Images(40, 56), {"boxes", DType::kF32, {m, 4}}, {"classes", DType::kI64, {m}}};
  PictureSourceOptions options;
  options.augment.horizontal_flip = 1;
  const auto source = Make(Coco(MakeScenes()), fields, options);
  int empty = 0, crowds = 0;
  for (int64_t i = 0; i < source->size(); ++i) {
    const Sample s = Read(*source, i), flipped = Read(*source, i, KeyOf(0, 0, i));
    int64_t expected = 0;
    for (const PictureObject& o : source->set().pictures[i].objects) {
      crowds += o.crowd;
      if (o.crowd) continue;
      const Picture& p = source->set().pictures[i];
      const float* box = s.floats(1) + 4 * expected;
      EXPECT_NEAR(box[0], (o.box.x + o.box.width / 2) / p.width, 1e-5);
      EXPECT_NEAR(box[3], o.box.height / p.height, 1e-5);
      EXPECT_NEAR(flipped.floats(1)[4 * expected], 1 - box[0], 1e-5);
      EXPECT_NEAR(flipped.floats(1)[4 * expected + 1], box[1], 1e-5);
      EXPECT_EQ(s.integers(2)[expected], o.category);
      ++expected;
    }
    for (int64_t k = expected; k < m; ++k) EXPECT_EQ(s.integers(2)[k], -1);
    empty += expected == 0;
    // Mirrored pixels, too.
    for (int x = 0; x < 56; ++x) {
      EXPECT_NEAR(s.floats(0)[20 * 56 + x], flipped.floats(0)[20 * 56 + 55 - x], 1e-3);
    }
  }
  EXPECT_GT(empty, 0);
  EXPECT_GT(crowds, 0);
}

TEST(Coco, BoxesAreClippedDroppedWhenLittleIsLeftAndTheLargestStayWhereRoomEnds) {
  PictureMap map = WholePicture(100, 100);
  map.x0 = 50, map.xu = 50;  // the right half
  const MovedBox half = MoveBox({40, 20, 20, 20}, map);
  EXPECT_NEAR(half.visible, 0.5, 1e-9);
  EXPECT_NEAR(half.cx, 0.1, 1e-9);
  EXPECT_NEAR(half.width, 0.2, 1e-9);
  EXPECT_NEAR(half.cy, 0.3, 1e-9);
  EXPECT_EQ(MoveBox({0, 0, 40, 40}, map).visible, 0);
  PictureSet set = Coco(MakeScenes());
  const auto most = std::max_element(
      set.pictures.begin(), set.pictures.end(),
      [](const Picture& a, const Picture& b) { return a.objects.size() < b.objects.size(); });
  set.pictures = {*most};
  ASSERT_GT(set.pictures[0].objects.size(), 2u);
  const auto source =
      Make(set, {Images(32, 32), {"boxes", DType::kF32, {1, 4}}, {"classes", DType::kI64, {1}}});
  const Sample s = Read(*source, 0);
  double largest = 0;
  for (const PictureObject& o : set.pictures[0].objects) {
    if (!o.crowd) largest = std::max(largest, o.box.width * o.box.height);
  }
  const Picture& p = set.pictures[0];
  EXPECT_NEAR(s.floats(1)[2] * p.width * s.floats(1)[3] * p.height, largest, 1e-2);
}

TEST(Coco, ClassesAreTheIdsOrCountedFromZeroAndMustFitTheModel) {
  PictureSet set = Coco(MakeScenes());
  const std::vector<FieldSpec> fields = {Images(32, 32), {"classes", DType::kI64, {8}}};
  PictureSourceOptions options;
  options.classes = 10;
  ExpectError(MakePictureSource(set, fields, options).status(), absl::StatusCode::kInvalidArgument,
              {"classes up to 10, the model has 0..9", "num_classes to 11", "contiguous_classes"});
  options.contiguous_classes = true;
  const auto source = Make(set, fields, options);
  EXPECT_EQ(source->ClassOf(1), 0);
  EXPECT_EQ(source->ClassOf(10), 9);
}

TEST(Coco, EverythingWrongWithTheFileIsReportedAtOnceById) {
  const std::string file = TestPath("broken.json");
  ASSERT_TRUE(WriteFileAtomically(file, R"({
    "annotations": [
      {"id": 1, "image_id": 5, "category_id": 1, "bbox": [0, 0, 4, 4], "iscrowd": 0,
       "segmentation": [[0, 0, 4]]},
      {"id": 2, "image_id": 6, "category_id": 1, "bbox": [0, 0, 4, 4]},
      {"id": 3, "image_id": 5, "category_id": 9, "bbox": [0, 0, 4, 4]},
      {"id": 3, "image_id": 5, "category_id": 1, "bbox": [0, 0, -4, 4]},
      {"id": 4, "image_id": 5, "category_id": 1, "bbox": [0, 0, 4]},
      {"id": 5, "image_id": 5, "category_id": 1, "bbox": [0, 0, 4, 4], "iscrowd": 1,
       "segmentation": {"size": [8, 9], "counts": [70, 2, 1]}},
      {"id": 6, "image_id": 5, "category_id": 1, "bbox": [0, 0, 4, 4], "iscrowd": 1,
       "segmentation": {"size": [4, 4], "counts": [14, 2]}}],
    "images": [{"id": 5, "file_name": "a.jpg", "height": 8, "width": 9}, {"id": 7}],
    "categories": [{"id": 1, "name": "x"}]})")
                  .ok());
  ExpectError(ReadCoco({file, "nowhere"}).status(), absl::StatusCode::kInvalidArgument,
              {"annotation 1 has a polygon of 3 numbers", "annotation 2 belongs to image 6",
               "annotation 3 has category_id 9", "annotation 3 is there twice",
               "annotation 3 has a bbox of -4 x 4", "annotation 4 has no bbox of four numbers",
               "annotation 5 the runs of the RLE are 73 pixels",
               "annotation 6 has an RLE of 4 x 4, image 5 has 8 x 9", "nowhere/a.jpg: no such file",
               "image 1 of the list lacks"});
  ASSERT_TRUE(WriteFileAtomically(file, absl::string_view("{\"images\": [\n1,\n}")).ok());
  ExpectError(ReadCoco({file, ""}).status(), absl::StatusCode::kInvalidArgument,
              {"broken.json", "line 3"});
}

TEST(PictureSource, FieldsThatDoNotFitAreAllReportedWithWhatWouldFit) {
  const PictureSet set = Isic(MakeSkins(1));
  ExpectError(MakePictureSource(set,
                                {Images(8, 8, 0, 4),
                                 Images(8, 8, 2),
                                 {"labels", DType::kI64, {}},
                                 {"boxes", DType::kF32, {3, 4}},
                                 {"spacing", DType::kF32, {3, 2}},
                                 {"masks", DType::kF32, {8, 8}}},
                                {})
                  .status(),
              absl::StatusCode::kInvalidArgument,
              {"'images' has 4 channels", "'images.2' without the scale before it",
               "'labels', which", "'boxes' needs a data set with boxes", "data.format: COCO",
               "'masks' is f32 [8, 8]", "its images have 2 scales"});
}

TEST(PictureSource, AGreyModelReadsColourPicturesAndMeanAndStdNormalise) {
  PictureSourceOptions options;
  const PictureSet set = Isic(MakeSkins(1));
  const auto colour = Make(set, {Images(12, 12)}), grey = Make(set, {Images(12, 12, 0, 1)});
  options.augment.mean = {0.5f, 0.4f, 0.3f};
  options.augment.std = {0.5f, 0.25f, 2};
  const auto normal = Make(set, {Images(12, 12)}, options);
  const Sample c = Read(*colour, 0), g = Read(*grey, 0), n = Read(*normal, 0);
  for (int p = 0; p < 144; ++p) {
    const float* v = c.floats(0);
    EXPECT_NEAR(g.floats(0)[p], 0.299 * v[p] + 0.587 * v[144 + p] + 0.114 * v[288 + p], 1e-5);
    EXPECT_NEAR(n.floats(0)[144 + p], (v[144 + p] - 0.4) / 0.25, 1e-5);
    EXPECT_NEAR(n.floats(0)[288 + p], (v[288 + p] - 0.3) / 2, 1e-5);
  }
}

}  // namespace
}  // namespace millrace
