// metrics.jsonl is read by scripts: one JSON object a line, whatever the numbers, and each step once, whatever was
// resumed from where.
#include "pipelines/runner/metrics.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_split.h"
#include "data/file.h"
#include "data/test_files.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

std::vector<nlohmann::json> Lines(const std::string& path) {
  std::vector<nlohmann::json> lines;
  for (absl::string_view line : absl::StrSplit(*ReadFile(path), '\n', absl::SkipEmpty())) {
    lines.push_back(nlohmann::json::parse(line));
  }
  return lines;
}

StepMetrics Step(int64_t step, double loss = 1) {
  StepMetrics m;
  m.step = step;
  m.loss = loss;
  return m;
}

TEST(MetricsFile, EveryLineIsReadableAsSoonAsItIsWritten) {
  const std::string path = TestPath("metrics.jsonl");
  auto file = MetricsFile::Open(path, 0);
  ASSERT_TRUE(file.ok()) << file.status();
  StepMetrics m = Step(3, 2.5);
  m.lr = 0.125;
  m.grad_norm = 4;
  ASSERT_TRUE((*file)->Write(m).ok());
  EvalMetrics e;
  e.step = 3;
  e.values = {{"top1", 0.5}, {"ap_small", -1}};
  e.samples = 297;
  ASSERT_TRUE((*file)->Write(e).ok());
  const auto lines = Lines(path);  // the file is still open
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["step"], 3);
  EXPECT_EQ(lines[0]["loss"], 2.5);
  EXPECT_EQ(lines[0]["lr"], 0.125);
  EXPECT_EQ(lines[0]["grad_norm"], 4);
  EXPECT_EQ(lines[1]["top1"], 0.5);
  EXPECT_EQ(lines[1]["ap_small"], -1);
  EXPECT_EQ(lines[1]["samples"], 297);
}

TEST(MetricsFile, ANormThatWasNotComputedIsLeftOut) {
  const std::string path = TestPath("metrics.jsonl");
  ASSERT_TRUE((*MetricsFile::Open(path, 0))->Write(Step(1)).ok());
  EXPECT_FALSE(Lines(path)[0].contains("grad_norm"));
}

TEST(MetricsFile, ALossThatIsNoNumberStaysVisibleAndTheLineValid) {
  const std::string path = TestPath("metrics.jsonl");
  const auto file = MetricsFile::Open(path, 0);
  StepMetrics m = Step(1, std::numeric_limits<double>::quiet_NaN());
  m.grad_norm = std::numeric_limits<double>::infinity();
  ASSERT_TRUE((*file)->Write(m).ok());
  EXPECT_EQ(Lines(path)[0]["loss"], "nan");
  EXPECT_EQ(Lines(path)[0]["grad_norm"], "inf");
}

TEST(MetricsFile, ResumingDropsWhatCameAfterTheCheckpointAndHalfALine) {
  const std::string path = TestPath("metrics.jsonl");
  {
    const auto file = MetricsFile::Open(path, 0);
    for (int64_t s = 1; s <= 5; ++s) ASSERT_TRUE((*file)->Write(Step(s)).ok());
  }
  ASSERT_TRUE(WriteFileAtomically(path, *ReadFile(path) + "{\"step\": 6, \"lo").ok());
  ASSERT_TRUE((*MetricsFile::Open(path, 3))->Write(Step(4, 9)).ok());
  const auto lines = Lines(path);
  ASSERT_EQ(lines.size(), 4u);
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i]["step"], i + 1);
  EXPECT_EQ(lines[3]["loss"], 9);
}

TEST(MetricsFile, ANewRunStartsAnew) {
  const std::string path = TestPath("metrics.jsonl");
  ASSERT_TRUE((*MetricsFile::Open(path, 0))->Write(Step(1)).ok());
  ASSERT_TRUE(MetricsFile::Open(path, 0).ok());
  EXPECT_TRUE(Lines(path).empty());
}

TEST(MetricsFile, AFolderThatIsNotThereIsAnErrorWithTheName) {
  const std::string path = TestPath("nowhere/metrics.jsonl");
  EXPECT_NE(MetricsFile::Open(path, 0).status().message().find(path), absl::string_view::npos);
}

TEST(ProgressLine, IsAPlainLineInALogFileAndNothingWhenQuiet) {
  testing::internal::CaptureStderr();
  ProgressLine quiet(10, 0, "memory", /*quiet=*/true);
  quiet.Update(Step(10));
  quiet.Say("evaluation");
  quiet.Finish();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");

  testing::internal::CaptureStderr();
  ProgressLine line(10, 0, "device 9.6 MiB", /*quiet=*/false);
  line.Update(Step(1, 2.25));
  line.Update(Step(2));  // too soon after the first for a log file
  line.Update(Step(10, 1.5));
  line.Finish();
  const std::string text = testing::internal::GetCapturedStderr();
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), 2u) << text;
  EXPECT_EQ(lines[0].rfind("step 1/10  10%  loss 2.2500", 0), 0u) << text;
  EXPECT_EQ(lines[1].rfind("step 10/10 100%  loss 1.5000", 0), 0u) << text;
  EXPECT_NE(lines[1].find("device 9.6 MiB"), std::string::npos);
  EXPECT_EQ(text.find('\r'), std::string::npos);
}

}  // namespace
}  // namespace millrace
