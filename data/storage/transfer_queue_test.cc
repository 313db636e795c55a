// The queue over a kernel of our own making, which answers what a real one answers seldom.
#include "data/storage/transfer_queue.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <random>
#include <utility>

#include "data/storage/crc32c.h"
#include "data/test_files.h"

namespace millrace {
namespace {

constexpr int64_t kBlock = 4 * kPageBytes;
constexpr int kDepth = 3;
constexpr int64_t kFileBytes = 16 * kBlock;

// A file in memory. Requests end in random order; `answer` may say something else than "all was moved".
struct FakeKernel {
  std::vector<char> file = std::vector<char>(kFileBytes);
  std::vector<IoRequest> in_flight;
  int submitted = 0, most_in_flight = 0;
  std::mt19937 random{7};
  std::function<int(const IoRequest&)> refuse = [](const IoRequest&) { return 0; };
  std::function<int64_t(const IoRequest&)> answer = [](const IoRequest& r) { return r.bytes; };
};

class FakeEngine : public IoEngine {
 public:
  explicit FakeEngine(FakeKernel* kernel) : kernel_(*kernel) {}

  int Submit(const IoRequest& request) override {
    ++kernel_.submitted;
    const int error = kernel_.refuse(request);
    if (error != 0) return error;
    kernel_.in_flight.push_back(request);
    kernel_.most_in_flight =
        std::max(kernel_.most_in_flight, static_cast<int>(kernel_.in_flight.size()));
    return 0;
  }

  IoCompletion Wait() override {
    EXPECT_FALSE(kernel_.in_flight.empty()) << "waits for nothing: it would hang";
    std::swap(kernel_.in_flight[kernel_.random() % kernel_.in_flight.size()],
              kernel_.in_flight.back());
    const IoRequest r = kernel_.in_flight.back();
    kernel_.in_flight.pop_back();
    const int64_t result = kernel_.answer(r);
    if (result > 0 && r.write) std::memcpy(&kernel_.file[r.offset], r.memory, result);
    if (result > 0 && !r.write) std::memcpy(r.memory, &kernel_.file[r.offset], result);
    return {r.tag, result};
  }

  std::string name() const override { return "fake"; }

 private:
  FakeKernel& kernel_;
};

class TransferQueueTest : public testing::Test {
 protected:
  TransferQueueTest() : staging_(kDepth * kBlock), out_(kFileBytes - 100), in_(out_.size()) {
    std::mt19937 random(3);
    for (char& c : out_) c = static_cast<char>(random());
    TransferQueue::Config config;
    config.path = "drive/file";
    config.file_bytes = kFileBytes;
    config.block_bytes = kBlock;
    config.queue_depth = kDepth;
    config.staging = staging_.data();
    queue_ = std::make_unique<TransferQueue>(std::make_unique<FakeEngine>(&kernel_), config);
  }

  absl::Status Write() { return Run(true, out_); }
  absl::Status Read() { return Run(false, in_); }
  absl::Status Run(bool write, std::vector<char>& bytes) {
    const absl::Status status =
        queue_->Run(write, {{0, bytes.data(), static_cast<int64_t>(bytes.size())}});
    EXPECT_TRUE(kernel_.in_flight.empty()) << "returned before all had ended";
    return status;
  }

  FakeKernel kernel_;
  std::vector<char> staging_, out_, in_;
  std::unique_ptr<TransferQueue> queue_;
};

TEST_F(TransferQueueTest, KeepsTheQueueFull) {
  ASSERT_TRUE(Write().ok());
  EXPECT_EQ(kernel_.most_in_flight, kDepth);
  EXPECT_EQ(kernel_.submitted, 16);
  ASSERT_TRUE(Read().ok());
  EXPECT_EQ(in_, out_);
}

TEST_F(TransferQueueTest, ContinuesWhatWasMovedInPart) {
  kernel_.answer = [this](const IoRequest& r) -> int64_t {
    return r.bytes <= kPageBytes ? r.bytes : kernel_.random() % r.bytes + 1;
  };
  ASSERT_TRUE(Write().ok());
  ASSERT_TRUE(Read().ok());
  EXPECT_EQ(in_, out_);
  EXPECT_GT(kernel_.submitted, 40);
}

TEST_F(TransferQueueTest, TriesAgainWhenInterruptedOrAskedTo) {
  kernel_.answer = [this](const IoRequest& r) -> int64_t {
    const uint32_t dice = kernel_.random() % 4;
    return dice == 0 ? -EINTR : dice == 1 ? -EAGAIN : r.bytes;
  };
  ASSERT_TRUE(Write().ok());
  ASSERT_TRUE(Read().ok());
  EXPECT_EQ(in_, out_);
}

TEST_F(TransferQueueTest, GivesUpOnADriveThatNeverMovesAnything) {
  for (const int64_t nothing : {int64_t{-EAGAIN}, int64_t{0}, int64_t{17}}) {
    kernel_.answer = [&](const IoRequest& r) { return r.offset == 2 * kBlock ? nothing : r.bytes; };
    ExpectError(Write(), absl::StatusCode::kUnavailable,
                {"drive/file: write of 16384 bytes at offset 32768 failed", "nothing was moved"});
  }
}

TEST_F(TransferQueueTest, AnErrorLetsTheOthersEndAndTheQueueLive) {
  ASSERT_TRUE(Write().ok());
  for (const bool write : {false, true}) {
    kernel_.answer = [](const IoRequest& r) -> int64_t {
      return r.offset == 5 * kBlock ? -EIO : r.bytes;
    };
    kernel_.submitted = 0;
    ExpectError(write ? Write() : Read(), absl::StatusCode::kUnknown,
                {write ? "write" : "read", "drive/file", "of 16384 bytes at offset 81920 failed",
                 "Input/output error"});
    EXPECT_LT(kernel_.submitted, 16) << "nothing new begins after an error";
    kernel_.answer = [](const IoRequest& r) { return r.bytes; };
  }
  ExpectError(Read(), absl::StatusCode::kFailedPrecondition,
              {"page at offset 81920", "never written, or its last write failed"});
  ASSERT_TRUE(Write().ok());
  ASSERT_TRUE(Read().ok());
  EXPECT_EQ(in_, out_);
}

TEST_F(TransferQueueTest, ARefusedSubmissionIsAnErrorOfThatRequest) {
  kernel_.refuse = [](const IoRequest& r) { return r.offset == 4 * kBlock ? -ENOMEM : 0; };
  ExpectError(Write(), absl::StatusCode::kResourceExhausted,
              {"write of 16384 bytes at offset 65536 failed: fake took no request"});
  kernel_.refuse = [](const IoRequest&) { return 0; };
  ASSERT_TRUE(Write().ok());
}

TEST_F(TransferQueueTest, EveryFlippedBitIsFoundAndItsPageNamed) {
  ASSERT_TRUE(Write().ok());
  for (int i = 0; i < 20; ++i) {
    const int64_t byte = kernel_.random() % out_.size();
    const char mask = static_cast<char>(1 << kernel_.random() % 8);
    kernel_.file[byte] ^= mask;
    ExpectError(Read(), absl::StatusCode::kDataLoss,
                {absl::StrCat("the page at offset ", byte / kPageBytes * kPageBytes,
                              " is corrupted: CRC32C ")});
    kernel_.file[byte] ^= mask;
  }
  EXPECT_TRUE(Read().ok());
}

TEST_F(TransferQueueTest, AlignedMemoryMovesWithoutACopy) {
  alignas(kPageBytes) static char memory[kBlock + 100];
  std::vector<const void*> seen;
  kernel_.answer = [&](const IoRequest& r) {
    seen.push_back(r.memory);
    return r.bytes;
  };
  ASSERT_TRUE(queue_->Run(true, {{0, memory, kBlock}}).ok());
  EXPECT_EQ(seen, std::vector<const void*>{memory});
  seen.clear();
  ASSERT_TRUE(queue_->Run(true, {{0, memory + 1, kBlock}}).ok());
  EXPECT_EQ(seen, std::vector<const void*>{staging_.data()});
}

}  // namespace
}  // namespace millrace
