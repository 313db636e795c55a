// Persistent values between steps, in memory and on storage: what is written is what is read, windows flow in and out.
#include "pipelines/runner/state_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace millrace {
namespace {

using testing::HasSubstr;

constexpr int64_t kValues = 3;       // per role on storage
constexpr int64_t kElements = 1500;  // of each: more than a page, not a multiple of one

// exp_avg/0, exp_avg/1, ... on storage, and one parameter on the device.
class StateMemoryTest : public testing::Test {
 protected:
  StateMemoryTest() {
    GraphBuilder builder("state");
    RankPlan rank_plan;
    rank_plan.ranks = {0};
    param_ =
        builder.AddValueWithBuffer({"param/0", DType::kF32, {8}}, BufferKind::kParameter, true);
    rank_plan.offset = {0};
    for (const char* role : {"exp_avg", "momentum"}) {
      for (int64_t i = 0; i < kValues; ++i) {
        Value value{absl::StrCat(role, "/", i), DType::kF32, {kElements}};
        stored_.push_back(builder.AddValueWithBuffer(value, BufferKind::kOptimizerState,
                                                     /*persistent=*/true, Tier::kStorage));
        rank_plan.offset.push_back(8192 * (static_cast<int64_t>(stored_.size()) - 1));
      }
    }
    plan_.world_size = 1;
    plan_.graph = *std::move(builder).Build();
    rank_plan.arena_bytes = rank_plan.persistent_bytes = {64, 0, 0, 8192 * 2 * kValues};
    plan_.rank_plans = {rank_plan};
    buffers_ = std::make_unique<RankBuffers>(*RankBuffers::Create(plan_, 0));
    StorageFile::Options options;
    options.path = absl::StrCat(testing::TempDir(), "/state_memory.", getpid());
    options.bytes = plan_.rank_plans[0].arena_bytes[3];
    options.fault = [this](bool write, int64_t, int64_t) {
      ++(write ? writes_ : reads_);
      return fault_;
    };
    file_ = *StorageFile::Create(options);
    memory_ = std::make_unique<StateMemory>(plan_, std::vector<const RankBuffers*>{buffers_.get()},
                                            std::vector<StorageFile*>{file_.get()});
  }

  void Fill(ValueId v, float number) {
    const absl::StatusOr<char*> at = memory_->At(0, v, /*change=*/true);
    ASSERT_TRUE(at.ok()) << at.status();
    for (int64_t i = 0; i < plan_.graph.values()[v].numel(); ++i)
      reinterpret_cast<float*>(*at)[i] = number + static_cast<float>(i);
  }
  void ExpectFilled(ValueId v, float number) {
    const absl::StatusOr<char*> at = memory_->At(0, v, /*change=*/false);
    ASSERT_TRUE(at.ok()) << at.status();
    for (int64_t i = 0; i < plan_.graph.values()[v].numel(); ++i)
      ASSERT_EQ(reinterpret_cast<float*>(*at)[i], number + static_cast<float>(i)) << i;
  }

  Plan plan_;
  ValueId param_ = -1;
  std::vector<ValueId> stored_;
  std::unique_ptr<RankBuffers> buffers_;
  int reads_ = 0, writes_ = 0;  // requests
  absl::Status fault_;
  std::unique_ptr<StorageFile> file_;
  std::unique_ptr<StateMemory> memory_;
};

TEST_F(StateMemoryTest, WhatWasWrittenIsReadWhateverWasInTheWindowMeanwhile) {
  ASSERT_EQ(memory_->Zero(), absl::OkStatus());
  for (size_t i = 0; i < stored_.size(); ++i) Fill(stored_[i], 100.0f * static_cast<float>(i));
  Fill(param_, 7);
  for (size_t i = stored_.size(); i-- > 0;)
    ExpectFilled(stored_[i], 100.0f * static_cast<float>(i));
  ExpectFilled(param_, 7);
  ASSERT_EQ(memory_->Close(), absl::OkStatus());
  for (size_t i = 0; i < stored_.size(); ++i) {  // the file itself
    std::vector<float> in(kElements);
    ASSERT_EQ(file_->Read(buffers_->place(stored_[i]), in.data(), kElements * 4), absl::OkStatus());
    EXPECT_EQ(in[kElements - 1], 100.0f * static_cast<float>(i) + kElements - 1);
  }
}

TEST_F(StateMemoryTest, ZeroIsZeroAlsoOfWhatAWindowHolds) {
  ASSERT_EQ(memory_->Zero(), absl::OkStatus());
  Fill(stored_[0], 5);
  Fill(param_, 5);
  ASSERT_EQ(memory_->Zero(), absl::OkStatus());
  for (const ValueId v : {stored_[0], stored_[5], param_}) {
    const absl::StatusOr<char*> at = memory_->At(0, v, false);
    ASSERT_TRUE(at.ok()) << at.status();
    for (int64_t i = 0; i < plan_.graph.values()[v].bytes(); ++i) ASSERT_EQ((*at)[i], 0);
  }
}

TEST_F(StateMemoryTest, OnlyWhatWasChangedIsWrittenBackAndEachIsReadOnce) {
  ASSERT_EQ(memory_->Zero(), absl::OkStatus());
  Fill(stored_[1], 1);
  ASSERT_EQ(memory_->Close(), absl::OkStatus());
  reads_ = writes_ = 0;
  for (int again = 0; again < 3; ++again) ExpectFilled(stored_[1], 1);
  const int of_one = reads_;
  EXPECT_GT(of_one, 0);
  // Another role has a window of its own.
  ASSERT_TRUE(memory_->At(0, stored_[kValues], false).ok());
  ExpectFilled(stored_[1], 1);
  EXPECT_EQ(reads_, 2 * of_one);
  ASSERT_EQ(memory_->Close(), absl::OkStatus());
  EXPECT_EQ(writes_, 0);
}

TEST_F(StateMemoryTest, AFaultNamesTheValueAndTheFile) {
  ASSERT_EQ(memory_->Zero(), absl::OkStatus());
  Fill(stored_[2], 1);
  fault_ = absl::DataLossError("the fault");
  const absl::Status lost = memory_->At(0, stored_[1], false).status();  // writes the other back
  EXPECT_EQ(lost.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(lost.message()), HasSubstr(file_->path()));
  EXPECT_THAT(std::string(lost.message()),
              HasSubstr("at offset 16384 (exp_avg/2) failed: the fault"));
  fault_ = absl::OkStatus();
  ASSERT_TRUE(memory_->At(0, stored_[1], false).ok());
}

}  // namespace
}  // namespace millrace
