// Each kind of damage once, to a plan where the right check must find it and say so in words that help.
#include <string>

#include "gmock/gmock.h"
#include "graph/verify/mutation.h"
#include "graph/verify/testing/valid_plans.h"
#include "graph/verify/verify.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Stage 1, 2 ranks, 2 micro-batches, overlapped, clipped.
LowerOptions Options(int stage) {
  LowerOptions options;
  options.zero_stage = stage;
  options.world_size = 2;
  options.accumulation = 2;
  options.reduce_bucket_bytes = 300;
  options.clip_norm = 1;
  return options;
}

LowerOptions Offloaded(Tier optimizer) {
  LowerOptions options = Options(2);
  options.accumulation = 1;  // or the host adds up what was copied, and the update reads that
  options.offload.optimizer = optimizer;
  options.offload.ring_bytes = 4096;
  return options;
}

std::string Found(Damage damage, const std::string& check, const LowerOptions& options);

// Findings of one check as text, after the first mutant of this kind.
std::string Found(Damage damage, const std::string& check, int stage = 1) {
  return Found(damage, check, Options(stage));
}
std::string Found(Damage damage, const std::string& check, const LowerOptions& options) {
  const Plan plan = MakeValidPlan(options, Planner::kReal).plan;
  for (uint64_t seed = 1; seed < 50; ++seed) {
    const auto mutant = Mutate(plan, damage, seed);
    if (!mutant.has_value()) continue;
    const VerifyResult result = Verify(mutant->plan);
    std::string text;
    for (const Finding& f : result.findings.list()) {
      if (f.check == check) text += ToText(f) + "\n";
    }
    if (!text.empty()) return text;
  }
  return "no finding of " + check;
}

TEST(DamageTest, DroppedEdgeLeavesAConflictUnordered) {
  EXPECT_THAT(Found(Damage::kDroppedEdge, "race"), HasSubstr("is not ordered with"));
}
TEST(DamageTest, ResultThatNobodyWaitsForIsNamedWithItsReader) {
  EXPECT_THAT(Found(Damage::kDroppedDoneEdges, "order"),
              AllOf(HasSubstr(".done"), HasSubstr("no path of edges makes it wait")));
}
TEST(DamageTest, ReversedEdgeClosesACycle) {
  EXPECT_THAT(Found(Damage::kReversedEdge, "deadlock"), HasSubstr("waits for itself"));
}
TEST(DamageTest, LaneOrderAgainstDataIsADeadlockPrintedNodeByNode) {
  EXPECT_THAT(Found(Damage::kSwappedLaneOrder, "deadlock"),
              AllOf(HasSubstr("waits for itself"), HasSubstr("(rank 0) -> ")));
}
TEST(DamageTest, EngineThatListsOperationsAgainstTheirIssueOrderIsFound) {
  EXPECT_THAT(
      Found(Damage::kSwappedEngineOrder, "deadlock") + Found(Damage::kSwappedEngineOrder, "order"),
      HasSubstr("all_gather"));
}
TEST(DamageTest, NodeTwiceInALaneIsFound) {
  EXPECT_THAT(Found(Damage::kDuplicateNode, "structure"), HasSubstr("stands twice"));
}
TEST(DamageTest, NodeMissingOnOneRankIsFoundOnThatRank) {
  EXPECT_THAT(Found(Damage::kMissingNode, "structure"),
              AllOf(HasSubstr("rank"), HasSubstr("stands in no lane")));
}
TEST(DamageTest, DoneHalfInTheIssueLaneIsFound) {
  EXPECT_THAT(Found(Damage::kNodeInWrongLane, "structure"), HasSubstr("stands in"));
}
TEST(DamageTest, DoneThatPrecedesItsStartIsACycle) {
  EXPECT_THAT(Found(Damage::kDoneBeforeStart, "deadlock"), HasSubstr(".start"));
}
TEST(DamageTest, CreditThatWaitsForALaterHolderIsACycle) {
  EXPECT_THAT(Found(Damage::kCyclicCredit, "deadlock"), HasSubstr("waits for itself"));
}
TEST(DamageTest, CreditTakenBeyondItsLimitNamesTheHolders) {
  EXPECT_THAT(Found(Damage::kCreditOverLimit, "credits", 3),
              HasSubstr("may be held against a limit"));
}
TEST(DamageTest, SwappedCollectivesOnOneRankNameBothRanks) {
  EXPECT_THAT(Found(Damage::kSwappedCollectives, "collectives"),
              AllOf(HasSubstr("rank 0"), HasSubstr("rank 1"), HasSubstr("issues")));
}
TEST(DamageTest, RankWithoutAPlanIsFound) {
  EXPECT_THAT(Found(Damage::kMissingRank, "structure"), HasSubstr("0 rank plans serve this rank"));
}
TEST(DamageTest, RankWithTwoPlansIsFound) {
  EXPECT_THAT(Found(Damage::kRankServedTwice, "structure"),
              HasSubstr("2 rank plans serve this rank"));
}
TEST(DamageTest, LiveBuffersOnTheSameBytesAreARace) {
  EXPECT_THAT(Found(Damage::kOverlappingBuffers, "race"), HasSubstr("of device memory"));
}
TEST(DamageTest, PersistentBuffersOnTheSameBytesAreFound) {
  EXPECT_THAT(Found(Damage::kOverlappingPersistent, "layout"), HasSubstr("overlap"));
}
TEST(DamageTest, BufferOutsideItsArenaIsFound) {
  EXPECT_THAT(Found(Damage::kOffsetOutsideArena, "layout"), HasSubstr("outside the device arena"));
}
TEST(DamageTest, MisalignedBufferIsFound) {
  EXPECT_THAT(Found(Damage::kMisaligned, "layout"), HasSubstr("not a multiple of 64"));
}
TEST(DamageTest, ArenaBeyondTheBudgetNamesTheNodeAtThePeak) {
  EXPECT_THAT(Found(Damage::kBudgetExceeded, "memory"),
              AllOf(HasSubstr("ward/"), HasSubstr("exceeds the budget")));
}
TEST(DamageTest, ArenaSmallerThanItsBuffersIsFound) {
  EXPECT_THAT(Found(Damage::kArenaTooSmall, "layout"), HasSubstr("outside the device arena"));
}
TEST(DamageTest, CountThatDoesNotFitItsValuesIsFound) {
  EXPECT_THAT(Found(Damage::kWrongCount, "collectives"), HasSubstr("elements for a count of"));
}
TEST(DamageTest, CollectiveOfAnotherTypeThanItsValuesIsFound) {
  EXPECT_THAT(Found(Damage::kWrongDType, "collectives"), HasSubstr("is of type"));
}
TEST(DamageTest, UnknownGroupIsFound) {
  EXPECT_THAT(Found(Damage::kWrongGroup, "structure"), HasSubstr("group"));
}
TEST(DamageTest, SwappedPartnersMixUpBuckets) {
  const std::string text = Found(Damage::kWrongPartner, "provenance", 3) +
                           Found(Damage::kWrongPartner, "order", 3) +
                           Found(Damage::kWrongPartner, "deadlock", 3);
  EXPECT_THAT(text, HasSubstr("all_gather"));
}
TEST(DamageTest, DroppedGradientNamesBucketMicroBatchAndStage) {
  EXPECT_THAT(
      Found(Damage::kDroppedGradient, "provenance"),
      AllOf(HasSubstr("bucket_"), HasSubstr("gradient of micro_batch"), HasSubstr("is missing")));
}
TEST(DamageTest, GradientCountedTwiceNamesBucketMicroBatchAndStage) {
  EXPECT_THAT(Found(Damage::kGradientCountedTwice, "provenance"),
              AllOf(HasSubstr("bucket_"), HasSubstr("is counted twice")));
}
TEST(DamageTest, ScaleOtherThanOneOverRanksAndMicroBatchesIsFound) {
  EXPECT_THAT(Found(Damage::kWrongScale, "provenance"),
              HasSubstr("expected 1/(2 ranks x 2 micro-batches)"));
}
TEST(DamageTest, UpdateWithAnUnreducedGradientIsFound) {
  EXPECT_THAT(Found(Damage::kUpdateBeforeReduce, "provenance", 0),
              HasSubstr("this rank's alone, not summed over the 2 ranks"));
}
TEST(DamageTest, GradientThatTheStepBeforeLeftIsFoundWithItsDelay) {
  EXPECT_THAT(Found(Damage::kGradientOfStepBefore, "provenance"),
              AllOf(HasSubstr("of_step_before"), HasSubstr("of delay 1")));
}
TEST(DamageTest, DelayThatIsDeclaredButNotSoIsFound) {
  EXPECT_THAT(Found(Damage::kWrongDelay, "provenance"),
              HasSubstr("holds batches of delay 0, but declares a delay of"));
}
TEST(DamageTest, SecondUpdateOfABucketIsFound) {
  EXPECT_THAT(Found(Damage::kDoubleUpdate, "provenance"), HasSubstr("is updated a second time"));
}
TEST(DamageTest, ParameterReadWhileShardedIsFound) {
  EXPECT_THAT(Found(Damage::kReadWhileSharded, "provenance", 3),
              AllOf(HasSubstr("a shard of bucket_"), HasSubstr("gather it first")));
}
TEST(DamageTest, GatherOfOldShardsAfterTheUpdateIsAStaleRead) {
  EXPECT_THAT(Found(Damage::kStaleParameter, "race"), HasSubstr("has overwritten"));
}
TEST(DamageTest, NextStepWouldReadStaleParameters) {
  EXPECT_THAT(Found(Damage::kStaleParameter, "provenance"), HasSubstr("the next step would read"));
}
TEST(DamageTest, GradientSliceInAWrongPlaceOfItsBucketIsFound) {
  EXPECT_THAT(Found(Damage::kShiftedSlice, "provenance"),
              HasSubstr("but the stage's parameters lie in"));
}
TEST(DamageTest, UpdateWithoutTheClipCoefficientIsFound) {
  EXPECT_THAT(Found(Damage::kUnclippedUpdate, "provenance"), HasSubstr("is not clipped"));
}
TEST(DamageTest, UpdateOnTheHostWithAGradientOnTheDeviceNamesBoth) {
  EXPECT_THAT(Found(Damage::kUpdateAcrossTiers, "types", Offloaded(Tier::kHost)),
              AllOf(HasSubstr("adamw/bucket_"), HasSubstr("works on grad/bucket_"),
                    HasSubstr("in device memory and on"), HasSubstr("in host memory")));
}
TEST(DamageTest, ParametersThatDoNotComeBackAreNotNewInTheNextStep) {
  EXPECT_THAT(Found(Damage::kDroppedCopy, "provenance", Offloaded(Tier::kHost)),
              HasSubstr("the next step would read param/bucket_"));
}
TEST(DamageTest, StatesThatAreNotReadOrNotWrittenBackAreNamedWithTheirUpdate) {
  std::string text;
  for (uint64_t seed = 1; seed < 30; ++seed) {
    const Plan plan = MakeValidPlan(Offloaded(Tier::kStorage), Planner::kReal).plan;
    const auto mutant = Mutate(plan, Damage::kDroppedCopy, seed);
    if (mutant.has_value()) text += Verify(mutant->plan).findings.ToText();
  }
  EXPECT_THAT(text, AllOf(HasSubstr("into which no optimizer state was copied"),
                          HasSubstr("but the next step would find there what this one found")));
}
TEST(DamageTest, StatesInAnotherStatesPlaceAreFound) {
  std::string text;
  for (uint64_t seed = 1; seed < 60; ++seed) {
    const Plan plan = MakeValidPlan(Offloaded(Tier::kStorage), Planner::kReal).plan;
    const auto mutant = Mutate(plan, Damage::kSwappedCopies, seed);
    if (mutant.has_value()) text += Verify(mutant->plan).findings.ToText();
  }
  EXPECT_THAT(text, HasSubstr("', which is exp_avg"));
}
TEST(DamageTest, NormThatLeavesOutABucketIsFound) {
  EXPECT_THAT(Found(Damage::kNormWithoutBucket, "provenance"), HasSubstr("0 times, expected once"));
}
TEST(DamageTest, BackwardWithTheSavedBlockOfAnotherForwardIsFound) {
  EXPECT_THAT(Found(Damage::kSavedOfOther, "provenance"), HasSubstr("saved"));
}
TEST(DamageTest, PlanChangedAfterItWasSignedIsFound) {
  EXPECT_THAT(Found(Damage::kWrongHash, "structure"), HasSubstr("the plan says its hash is"));
}

}  // namespace
}  // namespace millrace
