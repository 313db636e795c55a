#include "graph/base/findings.h"

#include <gtest/gtest.h>

#include "graph/base/dtype.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

TEST(Findings, NameEverythingTheyKnowInCompilerStyle) {
  Finding f;
  f.check = "race";
  f.node = "adamw/bucket_0";
  f.rank = 3;
  f.message = "writes what is still read";
  f.suggestion = "wait for it";
  f.file = "a.textproto";
  f.line = 12;
  f.column = 5;
  EXPECT_EQ(
      ToText(f),
      "a.textproto:12:5: error: [race] node 'adamw/bucket_0' on rank 3: writes what is still read; "
      "help: wait for it");
}

TEST(Findings, LeaveOutWhatTheyDoNotKnow) {
  Finding f;
  f.message = "no model";
  EXPECT_EQ(ToText(f), "error: no model");
  f.file = "a.textproto";
  EXPECT_EQ(ToText(f), "a.textproto: error: no model");
  f.rank = 1;
  EXPECT_EQ(ToText(f), "a.textproto: error: rank 1: no model");
}

TEST(Findings, GiveOneLineEachAndOneStatusForAll) {
  Findings findings;
  EXPECT_TRUE(findings.ToStatus().ok());
  Finding f;
  f.message = "first";
  findings.Add(f);
  f.message = "second";
  Findings more;
  more.Add(f);
  findings.Append(more);
  EXPECT_EQ(findings.ToStatus().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(findings.ToStatus().message(), "error: first\nerror: second");
}

TEST(Findings, ComeBackFromTheirStatus) {
  Findings findings;
  findings.Add({.check = "batch",
                .message = "is 10, expected 8",
                .suggestion = "set it",
                .file = "a",
                .line = 3,
                .column = 2});
  findings.Add({.node = "adamw", .rank = 1, .message = ""});
  const Findings back = FindingsOf(findings.ToStatus());
  ASSERT_EQ(back.list().size(), 2u);
  EXPECT_EQ(back.ToText(), findings.ToText());
  EXPECT_EQ(back.list()[0].suggestion, "set it");
  EXPECT_EQ(back.list()[0].line, 3);
  EXPECT_EQ(back.list()[1].rank, 1);
  EXPECT_TRUE(FindingsOf(absl::InternalError("error: no finding")).ok());
  EXPECT_TRUE(FindingsOf(absl::OkStatus()).ok());
}

TEST(Nearest, FindsWhatWasMeantAndNothingThatIsFarAway) {
  EXPECT_EQ(Nearest("stpes", {"seed", "steps", "epochs"}), "steps");
  EXPECT_EQ(Nearest("adamw", {"SGD", "ADAMW"}), "ADAMW");  // case costs nothing
  EXPECT_EQ(Nearest("colour", {"seed", "steps", "epochs"}), "");
  EXPECT_EQ(Nearest("intra", {"inter_node", "intra_node"}), "intra_node");  // the beginning will do
  EXPECT_EQ(Nearest("x", {}), "");
  EXPECT_EQ(Nearest("", {"x"}), "");
}

TEST(DType, NamesAndSizesGoBothWays) {
  for (int i = 0; i <= static_cast<int>(DType::kBool); ++i) {
    const auto t = static_cast<DType>(i);
    EXPECT_EQ(ParseDType(Name(t)), t);
    EXPECT_GE(SizeOf(t), 1);
  }
  EXPECT_EQ(SizeOf(DType::kBF16), 2);
  EXPECT_EQ(ParseDType("float"), std::nullopt);
}

absl::StatusOr<int> Half(int n) {
  if (n % 2 != 0) return absl::InvalidArgumentError("odd");
  return n / 2;
}

absl::StatusOr<int> Quarter(int n) {
  ASSIGN_OR_RETURN(const int half, Half(n));
  RETURN_IF_ERROR(Half(half));
  return Half(half);
}

TEST(Status, MacrosPassTheFirstErrorOn) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Quarter(7).status().message(), "odd");
  EXPECT_EQ(Quarter(6).status().message(), "odd");
  EXPECT_EQ(Annotate(Quarter(6).status(), "step ", 3).ToString(), "INVALID_ARGUMENT: step 3: odd");
  EXPECT_TRUE(Annotate(absl::OkStatus(), "step").ok());
}

}  // namespace
}  // namespace millrace
