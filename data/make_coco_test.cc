#include "data/make_coco.h"

#include <set>
#include <vector>

#include "data/test_files.h"
#include "nlohmann/json.hpp"

namespace millrace {
namespace {

MakeCocoOptions Small(const std::string& folder, uint64_t seed) {
  MakeCocoOptions options;
  options.directory = folder;
  options.train_images = 60;
  options.val_images = 5;
  options.min_side = 48, options.max_side = 80;
  options.seed = seed;
  return options;
}

TEST(MakeCoco, TheSameSeedGivesTheSameBytesAndAnotherOneOthers) {
  std::vector<std::vector<uint8_t>> files;
  for (const auto& [folder, seed] : {std::pair("a", 7), {"b", 7}, {"c", 8}}) {
    const MakeCocoOptions options = Small(TestPath(folder), seed);
    ASSERT_TRUE(MakeCoco(options).ok());
    std::vector<uint8_t> all;
    for (const char* name : {"/annotations/instances_train2017.json", "/train2017/000000000001.jpg",
                             "/val2017/000000500005.jpg"}) {
      const auto bytes = ReadFile(options.directory + name, "");
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      all.insert(all.end(), bytes->begin(), bytes->end());
    }
    files.push_back(all);
  }
  EXPECT_EQ(files[0], files[1]);
  EXPECT_NE(files[0], files[2]);
}

TEST(MakeCoco, AnnotationsHaveCocosFieldsAllClassesCrowdsAndPicturesWithoutObjects) {
  const MakeCocoOptions options = Small(TestPath("coco"), 1);
  ASSERT_TRUE(MakeCoco(options).ok());
  const auto text = ReadFile(options.directory + "/annotations/instances_train2017.json");
  ASSERT_TRUE(text.ok());
  const auto json = nlohmann::json::parse(*text);
  EXPECT_EQ(json["images"].size(), 60u);
  EXPECT_EQ(json["categories"].size(), 10u);
  std::set<int> classes, with_objects;
  int crowds = 0, lists = 0;
  for (const auto& a : json["annotations"]) {
    classes.insert(a["category_id"].get<int>());
    with_objects.insert(a["image_id"].get<int>());
    EXPECT_GT(a["area"].get<double>(), 0);
    EXPECT_LE(a["area"].get<double>(),
              1.1 * a["bbox"][2].get<double>() * a["bbox"][3].get<double>());
    crowds += a["iscrowd"].get<int>();
    lists += a["iscrowd"] == 1 && a["segmentation"]["counts"].is_array();
    EXPECT_EQ(a["segmentation"].is_object(), a["iscrowd"] == 1);
  }
  EXPECT_EQ(classes.size(), 10u);
  EXPECT_GE(crowds, 2);
  EXPECT_TRUE(lists > 0 && lists < crowds) << lists << " of " << crowds << ": both forms of RLE";
  EXPECT_LT(with_objects.size(), 60u);
  EXPECT_GT(with_objects.size(), 48u);
}

TEST(MakeCoco, AllMistakesAreReportedAtOnce) {
  MakeCocoOptions options;
  options.train_images = 0;
  options.classes = 11;
  options.max_objects = 0;
  options.max_side = 16;
  ExpectError(
      MakeCoco(options), absl::StatusCode::kInvalidArgument,
      {"no directory", "train_images is 0", "classes is 11", "max_objects is 0", "max_side is 16"});
}

}  // namespace
}  // namespace millrace
