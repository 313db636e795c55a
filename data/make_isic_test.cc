#include "data/make_isic.h"

#include <cmath>
#include <set>
#include <vector>

#include "data/image/codec.h"
#include "data/test_files.h"

namespace millrace {
namespace {

TEST(MakeIsic, TheSameSeedGivesTheSameBytesAndAnotherOneOthers) {
  MakeIsicOptions options;
  options.train_images = 3, options.val_images = 1, options.test_images = 1;
  options.min_side = 40, options.max_side = 60;
  std::vector<std::vector<uint8_t>> files;
  for (const auto& [folder, seed] : {std::pair("a", 7), {"b", 7}, {"c", 8}}) {
    options.directory = TestPath(folder);
    options.seed = seed;
    ASSERT_TRUE(MakeIsic(options).ok());
    std::vector<uint8_t> all;
    for (const char* name : {"/splits.json", "/images/ISIC_0000000.jpg", "/images/ISIC_0000004.jpg",
                             "/masks/ISIC_0000003_segmentation.png"}) {
      const auto bytes = ReadFile(options.directory + name, "");
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      all.insert(all.end(), bytes->begin(), bytes->end());
    }
    files.push_back(all);
  }
  EXPECT_EQ(files[0], files[1]);
  EXPECT_NE(files[0], files[2]);
}

TEST(MakeIsic, LesionsAreDarkerThanSkinWithinThePictureAndSizesVary) {
  std::set<std::pair<int, int>> sizes;
  for (int i = 0; i < 30; ++i) {
    const SkinImage skin = DrawSkin(3, i, 64, 96);
    const int h = skin.image.height, w = skin.image.width;
    sizes.insert({h, w});
    ASSERT_EQ(skin.mask.height, h);
    ASSERT_EQ(skin.mask.width, w);
    double sum[2] = {0, 0};
    int64_t count[2] = {0, 0};
    for (int y = 0; y < h; ++y) {
      for (int x = 0; x < w; ++x) {
        const int inside = *skin.mask.at(y, x) / 255;
        sum[inside] += skin.image.at(y, x)[2];
        ++count[inside];
      }
    }
    EXPECT_GT(count[1], h * w / 40) << i;
    EXPECT_LT(count[1], h * w * 3 / 4) << i;
    EXPECT_LT(sum[1] / count[1] + 15, sum[0] / count[0]) << i;
  }
  EXPECT_GT(sizes.size(), 20u);
}

TEST(MakeIsic, AllMistakesAreReportedAtOnce) {
  MakeIsicOptions options;
  options.train_images = 0;
  options.val_images = -1;
  options.min_side = 4;
  ExpectError(MakeIsic(options), absl::StatusCode::kInvalidArgument,
              {"no directory", "train_images is 0", "val_images is -1", "min_side is 4"});
}

}  // namespace
}  // namespace millrace
