#include "pipelines/runner/weights_evaluation.h"

#include "data/file.h"
#include "data/test_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/model.h"

namespace millrace {
namespace {

using testing::HasSubstr;

absl::StatusOr<ModelDef> Nothing(const Attrs&, const ModelRequest&) {
  return absl::UnimplementedError("only its arguments are looked at");
}
REGISTER_MODEL("square", "One size.", {{"image_size", int64_t{32}, "pixels"}}, Nothing);
REGISTER_MODEL("scales", "One size a scale.", {{"image_size", std::string("256,128"), "pixels"}},
               Nothing);
REGISTER_MODEL("shapeless", "None.", {{"width", int64_t{32}, "pixels"}}, Nothing);

// The value of the model's only argument after --image_sizes `size`.
std::string Sized(const std::string& model, const std::string& own, int64_t size) {
  LoadedPipeline loaded;
  loaded.proto.mutable_model()->set_name(model);
  if (!own.empty()) {
    Arg* arg = loaded.proto.mutable_model()->add_arg();
    arg->set_name("image_size");
    arg->set_s(own);
  }
  const absl::Status status = SetImageSize(size, &loaded);
  if (!status.ok()) return std::string(status.message());
  EXPECT_EQ(loaded.proto.model().arg_size(), 1);
  const Arg& arg = loaded.proto.model().arg(0);
  EXPECT_EQ(arg.name(), "image_size");
  return arg.value_case() == Arg::kI ? std::to_string(arg.i()) : arg.s();
}

TEST(SetImageSize, OfSeveralScalesAllKeepTheirRatioToTheFirst) {
  EXPECT_EQ(Sized("square", "", 48), "48");
  EXPECT_EQ(Sized("scales", "", 512), "512,256");
  EXPECT_EQ(Sized("scales", "128", 192), "192");
  EXPECT_EQ(Sized("scales", "512x640,256x320", 128), "128x160,64x80");
  EXPECT_EQ(Sized("scales", "100,33,1", 50), "50,17,1");
}

TEST(SetImageSize, WhatHasNoSizeIsNamed) {
  EXPECT_THAT(Sized("shapeless", "", 48), HasSubstr("model 'shapeless' has neither an argument"));
  EXPECT_THAT(Sized("scales", "large", 48), HasSubstr("\"large\" is not a list of sizes"));
}

TEST(SetImageSize, ImagesOfAFixedSizeAreResized) {
  LoadedPipeline loaded;
  loaded.proto.mutable_model()->set_name("square");
  ASSERT_TRUE(SetImageSize(48, &loaded).ok());
  EXPECT_FALSE(loaded.proto.data().augment().has_resize());
  loaded.proto.mutable_data()->set_format(Data::CIFAR100);
  ASSERT_TRUE(SetImageSize(48, &loaded).ok());
  EXPECT_EQ(loaded.proto.data().augment().resize(), 48);
}

TEST(FindWeights, TakesAFileAStepARunAndItsCheckpoints) {
  const std::string run = TestPath("run");
  for (const char* step : {"20", "100"}) {
    const std::string folder = run + "/checkpoints/step-00000" + (step[2] == 0 ? "0" : "") + step;
    ASSERT_TRUE(MakeDirectories(folder).ok());
    ASSERT_TRUE(WriteFileAtomically(folder + "/model.safetensors", "").ok());
  }
  const std::string newest = run + "/checkpoints/step-00000100/model.safetensors";
  EXPECT_EQ(*FindWeights(run), newest);
  EXPECT_EQ(*FindWeights(run + "/checkpoints"), newest);
  EXPECT_EQ(*FindWeights(newest), newest);
  EXPECT_EQ(*FindWeights(run + "/checkpoints/step-00000020"),
            run + "/checkpoints/step-00000020/model.safetensors");
  EXPECT_THAT(std::string(FindWeights(run + "/none").status().message()),
              HasSubstr("no such file or folder"));
  const std::string empty = TestPath("empty");
  ASSERT_TRUE(MakeDirectories(empty).ok());
  EXPECT_THAT(std::string(FindWeights(empty).status().message()), HasSubstr("holds no checkpoint"));
}

}  // namespace
}  // namespace millrace
