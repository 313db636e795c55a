// Runs side by side: methods, scaling, and what is absent stays absent.
#include "tools/analyze/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

namespace millrace {
namespace {

using testing::HasSubstr;
using testing::Not;

RunRow Row(const std::string& name, int world, int stage, double samples_per_second) {
  RunFiles run;
  run.name = name;
  run.result = {{"config", {{"model", "vit"}, {"world_size", world}, {"zero_stage", stage}}},
                {"samples_per_second", samples_per_second},
                {"peak_bytes_measured", {{"device", 3'000'000}}}};
  return RowOf(run, nullptr);
}

TEST(ComparisonTest, MethodsAreNamedByStageAndScalingIsAgainstTheRunOnOneRank) {
  std::vector<RunRow> rows = {Row("one", 1, 0, 100), Row("ddp", 2, 0, 180), Row("z3", 4, 3, 300)};
  AddScaling(rows);
  EXPECT_EQ(rows[0].method, "1 rank");
  EXPECT_EQ(rows[1].method, "DDP");
  EXPECT_EQ(rows[2].method, "ZeRO-3");
  EXPECT_DOUBLE_EQ(*rows[0].scaling, 1);
  EXPECT_DOUBLE_EQ(*rows[1].scaling, 0.9);
  EXPECT_DOUBLE_EQ(*rows[2].scaling, 0.75);
}

TEST(ComparisonTest, WithoutARunOnOneRankOrOfAnotherModelThereIsNoScaling) {
  std::vector<RunRow> rows = {Row("ddp", 2, 0, 180), Row("z3", 4, 3, 300)};
  AddScaling(rows);
  EXPECT_FALSE(rows[0].scaling.has_value());
  rows.push_back(Row("one", 1, 0, 100));
  rows[2].model = "other";
  AddScaling(rows);
  EXPECT_FALSE(rows[0].scaling.has_value());
}

TEST(ComparisonTest, WhatIsNotKnownIsEmptyInCsvAndNullInJson) {
  const std::vector<RunRow> rows = {Row("a,\"b\"", 2, 1, 180)};
  const std::string csv = ComparisonCsv(rows);
  EXPECT_THAT(csv, HasSubstr("run,pipeline,model,method,world_size"));
  EXPECT_THAT(csv, HasSubstr("\"a,\"\"b\"\"\",,vit,ZeRO-1,2,1,,,,,3000000,,,,,,180.0,,,,,,,\r\n"));
  const auto json = ComparisonJson(rows);
  EXPECT_EQ(json[0]["loss"], nullptr);
  EXPECT_EQ(json[0]["peak_device_bytes"], 3'000'000);
  EXPECT_THAT(ComparisonText(rows), Not(HasSubstr("pinned")));
}

TEST(ComparisonTest, BarsHaveTheirNumbersAndNamesAreEscaped) {
  std::vector<RunRow> rows = {Row("<a&b>", 1, 0, 100), Row("z", 2, 3, 150)};
  AddScaling(rows);
  const std::string svg = BarChart("two \"runs\"", ComparisonPanels(rows));
  EXPECT_THAT(svg, HasSubstr("&lt;a&amp;b&gt;"));
  EXPECT_THAT(svg, HasSubstr(">150.0</text>"));
  EXPECT_THAT(svg, HasSubstr(">75.0</text>"));  // scaling
  EXPECT_THAT(svg, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(svg, Not(HasSubstr("Communication")));  // no traces: no empty panel
}

TEST(RunFolderTest, AFolderOfSomethingElseIsRefused) {
  const auto run = ReadRun(testing::TempDir());
  EXPECT_EQ(run.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(run.status().message()), HasSubstr("expected trace.json or run.json"));
}

TEST(RunFolderTest, ACutOffResultIsNamed) {
  const std::string folder = testing::TempDir();
  std::ofstream(folder + "/run.json") << "{\"steps\": 1";
  const auto run = ReadRun(folder);
  EXPECT_THAT(std::string(run.status().message()), HasSubstr("run.json: is no JSON object"));
  std::remove((folder + "/run.json").c_str());
}

}  // namespace
}  // namespace millrace
