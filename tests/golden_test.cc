// Every supported golden case through the runner that users call, and proof that the runner's comparison can
// fail: a rule that finds nothing wrong is worth only as much as its ability to find something.
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "data/safetensors/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/golden_case.h"
#include "tests/golden_compare.h"
#include "tests/golden_runner.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr char kGolden[] = "tests/golden";

std::string Folder(const std::string& name) {
  const std::string path = testing::TempDir() + "/" + name;
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

void WriteText(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

TEST(Golden, EveryCaseOfTheRepositoryAgreesWithTheReference) {
  std::ostringstream report;
  const auto sum = RunGolden({kGolden, Folder("all"), /*compare=*/true}, report);
  ASSERT_TRUE(sum.ok()) << sum.status();
  std::cout << report.str();
  EXPECT_TRUE(sum->ok());
  EXPECT_EQ(sum->written, static_cast<int>(ReadManifest(kGolden)->size()));
  EXPECT_EQ(sum->passed, sum->written);
  EXPECT_EQ(sum->unsupported, 0);
}

// One small case in a folder of its own, with the expected file edited tensor by tensor.
struct Edit {
  std::string tensor;
  DType dtype;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
  template <typename T>
  T* data() {
    return reinterpret_cast<T*>(bytes.data());
  }
};

void EditFile(const std::string& from, const std::string& to,
              const std::function<void(std::vector<Edit>&)>& edit) {
  const auto file = SafetensorsFile::Open(from);
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<Edit> edits;
  for (const auto& e : file->entries()) {
    edits.push_back({e.name, e.dtype, e.shape, {e.data, e.data + e.bytes}});
  }
  edit(edits);
  std::vector<NamedTensor> tensors;
  for (const Edit& e : edits) tensors.push_back({e.tensor, e.dtype, e.shape, e.bytes.data()});
  ASSERT_TRUE(WriteSafetensors(to, tensors, {}).ok());
}

class Comparison : public testing::Test {
 protected:
  // The expected results of `name` against the same after `edit`.
  GoldenComparison Compare(const std::string& name,
                           const std::function<void(std::vector<Edit>&)>& edit) {
    const std::string expected = std::string(kGolden) + "/expected/" + name + ".safetensors";
    const std::string edited = Folder("edited") + "/" + name + ".safetensors";
    EditFile(expected, edited, edit);
    const auto cases = ReadManifest(kGolden);
    for (const GoldenCase& c : *cases) {
      if (c.name != name) continue;
      const auto result =
          CompareGolden(c, *SafetensorsFile::Open(edited), *SafetensorsFile::Open(expected));
      EXPECT_TRUE(result.ok()) << result.status();
      if (result.ok()) return *result;
    }
    ADD_FAILURE() << "no case " << name;
    return {};
  }

  static Edit& Find(std::vector<Edit>& edits, const std::string& tensor) {
    for (Edit& e : edits) {
      if (e.tensor == tensor) return e;
    }
    ADD_FAILURE() << "no tensor " << tensor;
    return edits.at(0);
  }

  static void DropLoss(std::vector<Edit>& edits) {  // for information, not compared
    for (size_t i = 0; i < edits.size(); ++i) {
      if (edits[i].tensor == "loss") edits.erase(edits.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
};

TEST_F(Comparison, EqualFilesPass) {
  const GoldenComparison c = Compare("vit_small", DropLoss);
  EXPECT_TRUE(c.pass()) << c.ToText();
  EXPECT_EQ(c.worst.distance, 0);
}

TEST_F(Comparison, OneElementBeyondTheLimitFailsAndIsNamed) {
  const auto shifted = [&](double share) {
    return Compare("adamw_wd", [share](std::vector<Edit>& edits) {
      Edit& t = Find(edits, "output.step3_p1");
      double largest = 0;
      for (int i = 0; i < 11; ++i)
        largest = std::max(largest, std::abs(double{t.data<float>()[i]}));
      t.data<float>()[7] += static_cast<float>(share * (2e-6 + 2e-5 * largest));
    });
  };
  EXPECT_TRUE(shifted(0.9).pass());
  const GoldenComparison c = shifted(1.1);
  EXPECT_FALSE(c.pass());
  EXPECT_EQ(c.disagreeing, 1);
  EXPECT_EQ(c.worst.tensor, "output.step3_p1");
  EXPECT_THAT(c.ToText(), HasSubstr("1 disagree"));
}

TEST_F(Comparison, GradientsHaveTheirOwnTolerance) {
  // The limits are 4.8e-4 for this gradient and 4.3e-5 for the logits.
  const auto shifted = [&](const char* tensor) {
    return Compare("vit_small", [tensor](std::vector<Edit>& edits) {
      DropLoss(edits);
      Edit& t = Find(edits, tensor);
      for (size_t i = 0; i < t.bytes.size() / 4; ++i) t.data<float>()[i] += 3e-4f;
    });
  };
  EXPECT_FALSE(shifted("output.logits").pass());
  EXPECT_TRUE(shifted("grad_param.classifier.weight").pass());
}

TEST_F(Comparison, TracesInDoubleAreHeldToTwelveDigits) {
  const GoldenComparison c = Compare("lr_schedules", [](std::vector<Edit>& edits) {
    Find(edits, "output.lr_4").data<double>()[20] *= 1 + 1e-9;
  });
  EXPECT_FALSE(c.pass());
  EXPECT_EQ(c.worst.tensor, "output.lr_4");
}

TEST_F(Comparison, NaNMissingExtraTypeAndShapeFail) {
  const auto text = [&](const std::function<void(std::vector<Edit>&)>& edit) {
    const GoldenComparison c = Compare("sgd_momentum", edit);
    EXPECT_FALSE(c.pass());
    return c.ToText();
  };
  EXPECT_THAT(text([](auto& e) {
                e[2].template data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
              }),
              HasSubstr("inf, limit"));
  EXPECT_THAT(text([](auto& e) { e.pop_back(); }), HasSubstr("is missing"));
  EXPECT_THAT(text([](auto& e) {
                e.push_back(e[0]);
                e.back().tensor = "output.more";
              }),
              HasSubstr("output.more was not asked for"));
  EXPECT_THAT(text([](auto& e) { Find(e, "output.step0_p0").dtype = DType::kI32; }),
              HasSubstr("is i32[7,5], expected f32[7,5]"));
  EXPECT_THAT(text([](auto& e) {
                Find(e, "output.step0_p0").shape = {5, 7};
              }),
              HasSubstr("is f32[5,7], expected f32[7,5]"));
}

TEST_F(Comparison, IntegersAreEqualOrNot) {
  GoldenCase c;
  c.compare = {"output.n"};
  c.tolerance = {{"forward", {{"rtol", 1.0}, {"atol", 100.0}}}};
  const std::string dir = Folder("integers");
  const auto file = [&dir](int64_t value) {
    const std::string path = dir + "/" + std::to_string(value);
    EXPECT_TRUE(WriteSafetensors(path, {{"output.n", DType::kI64, {1}, &value}}, {}).ok());
    return *SafetensorsFile::Open(path);
  };
  EXPECT_TRUE(CompareGolden(c, file(5), file(5))->pass());
  EXPECT_FALSE(CompareGolden(c, file(6), file(5))->pass());
}

class Runner : public testing::Test {
 protected:
  // A set of one small case of the repository, to be spoilt.
  void SetUp() override {
    for (const char* side : {"inputs", "expected"}) {
      fs::create_directories(dir_ + "/" + side);
      fs::copy(Path(kGolden, side), Path(dir_, side));
    }
    std::ifstream manifest(std::string(kGolden) + "/manifest.jsonl");
    while (std::getline(manifest, line_) && line_.find("\"adam_l2\"") == std::string::npos) {
    }
    ASSERT_FALSE(line_.empty());
    WriteText(dir_ + "/manifest.jsonl", line_ + "\n");
  }
  static std::string Path(const std::string& dir, const std::string& side) {
    return dir + "/" + side + "/adam_l2.safetensors";
  }
  void Spoil(const std::string& from, const std::string& to) {
    std::string line = line_;
    const size_t at = line.find(from);
    ASSERT_NE(at, std::string::npos);
    WriteText(dir_ + "/manifest.jsonl", line.replace(at, from.size(), to) + "\n");
  }
  absl::StatusOr<GoldenSummary> Run() {
    report_.str("");
    return RunGolden({dir_, dir_ + "/out", true}, report_);
  }

  const std::string dir_ = Folder("set");
  std::string line_;
  std::ostringstream report_;
};

TEST_F(Runner, AnEditedExpectationIsAFail) {
  ASSERT_EQ(Run()->passed, 1) << report_.str();
  EditFile(Path(kGolden, "expected"), Path(dir_, "expected"),
           [](auto& e) { e[4].template data<float>()[1] += 0.01f; });
  const auto sum = Run();
  EXPECT_EQ(sum->failed, 1);
  EXPECT_FALSE(sum->ok());
  EXPECT_THAT(report_.str(), HasSubstr("FAIL           adam_l2: "));
}

TEST_F(Runner, OtherArgumentsGiveOtherResults) {
  Spoil("\"Adam\"", "\"AdamW\"");
  EXPECT_EQ(Run()->failed, 1);
}

TEST_F(Runner, WhatIsNotSupportedIsSaidAndNotWritten) {
  Spoil("\"optimizer\"", "\"divination\"");
  const auto sum = Run();
  EXPECT_EQ(sum->unsupported, 1);
  EXPECT_TRUE(sum->ok());
  EXPECT_THAT(report_.str(), HasSubstr("not supported  adam_l2 (divination)"));
  EXPECT_FALSE(fs::exists(dir_ + "/out/adam_l2.safetensors"));
}

TEST_F(Runner, WhatCannotBeComputedIsAnError) {
  for (const auto& [from, to, message] :
       {std::array{"\"weight_decay\"", "\"amsgrad\"", "knows nothing of: amsgrad = 0.02"},
        std::array{"output.step4_p2", "output.step5_p2", "does not compute 'output.step5_p2'"},
        std::array{"\"steps\": 5", "\"steps\": \"five\"", "type must be number"},
        std::array{"\"steps\": 5", "\"steps\": 6", "has no tensor 'input.grad_step5_p0'"}}) {
    Spoil(from, to);
    EXPECT_EQ(Run()->errors, 1) << message;
    EXPECT_THAT(report_.str(), HasSubstr(message));
  }
}

TEST_F(Runner, FoldersThatCannotBeUsedAreNamed) {
  std::ostringstream report;
  const auto message = [&report](const GoldenOptions& o) {
    return std::string(RunGolden(o, report).status().message());
  };
  EXPECT_THAT(message({"/no/such", dir_ + "/out"}), HasSubstr("/no/such: no such folder"));
  EXPECT_THAT(message({dir_ + "/inputs", dir_ + "/out"}), HasSubstr("manifest.jsonl"));
  EXPECT_THAT(message({dir_ + "/inputs", dir_ + "/out", true}), HasSubstr("--compare needs"));
  EXPECT_THAT(message({dir_, dir_ + "/manifest.jsonl"}), HasSubstr("cannot make this folder"));
  WriteText(dir_ + "/manifest.jsonl", line_ + "\n" + line_ + "\n");
  EXPECT_THAT(message({dir_, dir_ + "/out"}), HasSubstr("manifest.jsonl:2: case 'adam_l2'"));
  WriteText(dir_ + "/manifest.jsonl", "{\"case\": 1}\n");
  EXPECT_THAT(message({dir_, dir_ + "/out"}), HasSubstr("manifest.jsonl:1: "));
}

}  // namespace
}  // namespace millrace
