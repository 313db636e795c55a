#include "data/make_cifar.h"

#include <algorithm>

#include "data/cifar.h"
#include "data/open_dataset.h"
#include "data/test_files.h"

namespace millrace {
namespace {

MakeCifarOptions Small(const std::string& name) {
  MakeCifarOptions options;
  options.directory = TestPath(name);
  options.train_images = 200;
  options.test_images = 50;
  return options;
}

std::shared_ptr<const Dataset> Open(const std::string& path, bool coarse = false) {
  DatasetOptions options;
  options.kind = DatasetOptions::Kind::kCifar100;
  options.files = {path};
  options.coarse_labels = coarse;
  auto data = OpenDataset(options);
  EXPECT_TRUE(data.ok()) << data.status();
  return *data;
}

std::vector<uint8_t> Bytes(const std::string& path) { return *ReadFile(path, ""); }

TEST(MakeCifar, TheReaderReadsWhatTheGeneratorWrote) {
  const MakeCifarOptions options = Small("cifar");
  ASSERT_TRUE(MakeCifar(options).ok());
  const auto train = Open(options.directory + "/train.bin");
  const auto coarse = Open(options.directory + "/train.bin", true);
  EXPECT_EQ(train->size(), 200);
  EXPECT_EQ(Open(options.directory + "/test.bin")->size(), 50);
  std::vector<int> counts(100);
  std::vector<float> pixels(kCifarPixels);
  for (int64_t i = 0; i < 200; ++i) {
    int64_t fine_label, coarse_label;
    ASSERT_TRUE(train->Get(i, absl::MakeSpan(pixels), &fine_label).ok());
    ASSERT_TRUE(coarse->Get(i, absl::MakeSpan(pixels), &coarse_label).ok());
    EXPECT_EQ(coarse_label, fine_label / 5);
    ++counts[fine_label];
  }
  EXPECT_EQ(counts, std::vector<int>(100, 2));
  const auto fine_names = Bytes(options.directory + "/fine_label_names.txt");
  const auto coarse_names = Bytes(options.directory + "/coarse_label_names.txt");
  EXPECT_EQ(std::count(fine_names.begin(), fine_names.end(), '\n'), 100);
  EXPECT_EQ(std::count(coarse_names.begin(), coarse_names.end(), '\n'), 20);
}

TEST(MakeCifar, TheSeedDecidesTheBytes) {
  MakeCifarOptions a = Small("a"), b = Small("b"), c = Small("c");
  c.seed = 1;
  for (const auto& options : {a, b, c}) ASSERT_TRUE(MakeCifar(options).ok());
  EXPECT_EQ(Bytes(a.directory + "/train.bin"), Bytes(b.directory + "/train.bin"));
  EXPECT_NE(Bytes(a.directory + "/train.bin"), Bytes(c.directory + "/train.bin"));
}

// The nearest class mean of raw pixels is about the weakest classifier there is; what it finds, a
// network finds too.
TEST(MakeCifar, ClassesCanBeLearntFromTheTrainingPartAndRecognisedInTheTestPart) {
  MakeCifarOptions options = Small("cifar");
  options.train_images = 1000;
  options.test_images = 200;
  ASSERT_TRUE(MakeCifar(options).ok());
  const auto train = Open(options.directory + "/train.bin");
  const auto test = Open(options.directory + "/test.bin");
  std::vector<std::vector<double>> mean(100, std::vector<double>(kCifarPixels));
  std::vector<float> pixels(kCifarPixels);
  int64_t label;
  for (int64_t i = 0; i < train->size(); ++i) {
    ASSERT_TRUE(train->Get(i, absl::MakeSpan(pixels), &label).ok());
    for (int p = 0; p < kCifarPixels; ++p) mean[label][p] += pixels[p] / 10;
  }
  int right = 0;
  for (int64_t i = 0; i < test->size(); ++i) {
    ASSERT_TRUE(test->Get(i, absl::MakeSpan(pixels), &label).ok());
    std::vector<double> distance(100);
    for (int k = 0; k < 100; ++k) {
      for (int p = 0; p < kCifarPixels; ++p) {
        distance[k] += (pixels[p] - mean[k][p]) * (pixels[p] - mean[k][p]);
      }
    }
    right += std::min_element(distance.begin(), distance.end()) - distance.begin() == label;
  }
  RecordProperty("right_of_200", right);
  EXPECT_GT(right, 100) << "of 200; chance is 2";
}

TEST(MakeCifar, AllMistakesAreReportedAtOnce) {
  MakeCifarOptions options;
  options.train_images = 0;
  options.test_images = -1;
  options.classes = 101;
  ExpectError(MakeCifar(options), absl::StatusCode::kInvalidArgument,
              {"no directory", "train_images is 0", "test_images is -1", "classes is 101"});
}

}  // namespace
}  // namespace millrace
