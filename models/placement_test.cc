#include "models/placement.h"

#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using Region = Placement::Region;

// "+0:128 +1:64 -0": allocate 128 bytes, then 64, then free the first.
std::vector<AllocationEvent> Events(const std::string& text) {
  static std::vector<int64_t> bytes(100);
  std::vector<AllocationEvent> events;
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    const std::vector<std::string> parts = absl::StrSplit(word.substr(1), ':');
    AllocationEvent e;
    e.is_free = word[0] == '-';
    (void)absl::SimpleAtoi(parts[0], &e.id);
    if (!e.is_free) (void)absl::SimpleAtoi(parts[1], &bytes[e.id]);
    e.bytes = bytes[e.id];
    events.push_back(e);
  }
  return events;
}

std::string Text(const AllocationPlan& plan) {
  static const char* names[] = {"workspace", "saved", "output", "input_grad", "param_grad"};
  std::vector<std::string> words;
  for (const Placement& p : plan.allocations) {
    const bool inside = p.region == Region::kWorkspace || p.region == Region::kSaved;
    words.push_back(absl::StrCat(names[static_cast<int>(p.region)], inside ? "@" : "#",
                                 inside ? p.offset : p.index));
  }
  return absl::StrJoin(words, " ");
}

TEST(Placement, TheExampleOfTheHeader) {
  StageTrace trace;
  trace.forward = Events("+0:128 +1:64 -1 +2:256");
  trace.backward = Events("+3:64 -0 +4:128 -3 -4");
  trace.boundary[2] = {Region::kOutput, 0};
  const StagePlacement p = PlaceTraining(trace);
  EXPECT_EQ(p.saved_bytes, 128);
  EXPECT_EQ(Text(p.forward), "saved@0 workspace@0 output#0");
  EXPECT_EQ(p.forward.workspace_bytes, 64);
  EXPECT_EQ(Text(p.backward), "workspace@0 saved@0");
  EXPECT_EQ(p.backward.workspace_bytes, 64);
}

TEST(Placement, ScratchOfForwardLiesWhereALaterSavedTensorWillBe) {
  StageTrace trace;
  trace.forward = Events("+0:64 +1:128 -1 +2:128");
  const StagePlacement p = PlaceTraining(trace);
  EXPECT_EQ(Text(p.forward), "saved@0 saved@64 saved@64");
  EXPECT_EQ(p.forward.workspace_bytes, 0);
}

TEST(Placement, ASavedTensorThatBackwardNeverFreesKeepsItsPlaceToTheEnd) {
  StageTrace trace;
  trace.forward = Events("+0:64");
  trace.backward = Events("+1:64 -1");
  EXPECT_EQ(Text(PlaceTraining(trace).backward), "workspace@0");
}

TEST(Placement, SizesAreRoundedTo64SoThatEveryBlockIsAligned) {
  const AllocationPlan plan = PlaceAlone(Events("+0:1 +1:65 +2:64 -0 -1 -2"), {});
  EXPECT_EQ(plan.workspace_bytes, 64 + 128 + 64);
  for (const Placement& p : plan.allocations) EXPECT_EQ(p.offset % 64, 0);
}

TEST(Placement, BlocksThatDoNotMeetInTimeShareTheirPlace) {
  EXPECT_EQ(PlaceAlone(Events("+0:512 -0 +1:512 -1 +2:64 -2"), {}).workspace_bytes, 512);
}

TEST(Placement, TheBestOfSeveralOrdersIsTaken) {
  // By size alone 2 would go below 0 and leave no room for 3.
  const AllocationPlan plan = PlaceAlone(Events("+0:64 +1:64 -0 +2:64 -1 +3:128 -2 -3"), {});
  EXPECT_LE(plan.workspace_bytes, 256);
}

TEST(Placement, GradientsAreInputAndParameterGradients) {
  StageTrace trace;
  trace.backward = Events("+0:64 +1:128");
  trace.boundary[0] = {Region::kParamGrad, 3};
  trace.boundary[1] = {Region::kInputGrad, 0};
  EXPECT_EQ(Text(PlaceTraining(trace).backward), "param_grad#3 input_grad#0");
}

}  // namespace
}  // namespace millrace
