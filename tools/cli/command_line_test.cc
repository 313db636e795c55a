#include "tools/cli/command_line.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<CommandLine> Parse(std::vector<const char*> words) {
  words.insert(words.begin(), "millrace");
  return ParseCommandLine(static_cast<int>(words.size()), words.data());
}

TEST(CommandLine, VerbArgumentsFlagsAndRepeatedSetsAreTold) {
  const auto c = Parse(
      {"run", "p.textproto", "--set", "train.steps=3", "--set=train.seed=1", "--json", "--resume"});
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->verb, "run");
  EXPECT_THAT(c->arguments, ElementsAre("p.textproto"));
  EXPECT_THAT(c->sets, ElementsAre("train.steps=3", "train.seed=1"));
  EXPECT_TRUE(c->Has("json"));
  EXPECT_EQ(c->Get("resume", "?"), "");
  EXPECT_EQ(Parse({"run", "x", "--resume=a/b"})->Get("resume", ""), "a/b");
  EXPECT_TRUE(Parse({"run", "x", "--dry-run"})->Has("dry_run"));
}

TEST(CommandLine, TheLineIsKeptAsItMayBeTypedAgain) {
  EXPECT_EQ(Parse({"run", "a/b.textproto", "--set", "train.steps=3", "--json"})->typed,
            "millrace run a/b.textproto --set train.steps=3 --json");
  EXPECT_EQ(Parse({"plan", "my file", "--set=data.images=it's", "--set", ""})->typed,
            "millrace plan 'my file' '--set=data.images=it'\\''s' --set ''");
}

TEST(CommandLine, EveryMistakeIsReportedWithASuggestion) {
  const absl::Status status = Parse({"rum", "--jsn", "--format=dott"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const std::string text(status.message());
  EXPECT_THAT(text, HasSubstr("unknown verb 'rum'; help: did you mean run"));
  EXPECT_THAT(text, HasSubstr("unknown flag --jsn; help: did you mean --json"));
  EXPECT_THAT(text, HasSubstr("--format=dott is not known; help: did you mean dot"));
}

TEST(CommandLine, AFlagOfAnotherVerbIsAnErrorNotIgnored) {
  EXPECT_THAT(std::string(Parse({"plan", "x", "--resume"}).status().message()),
              HasSubstr("means nothing to 'plan'"));
  EXPECT_FALSE(Parse({"run", "x", "--quiet=1"}).ok());
  EXPECT_FALSE(Parse({}).ok());
  EXPECT_EQ(Parse({"run", "--help"})->verb, "help");
}

}  // namespace
}  // namespace millrace
