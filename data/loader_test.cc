#include "data/loader.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "data/dataset_source.h"
#include "data/test_files.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

// Sample i is the two pixels (i, i + 0.5) with label i; `broken` samples cannot be read.
class Numbers : public Dataset {
 public:
  explicit Numbers(int64_t size, std::set<int64_t> broken = {}) : size_(size), broken_(broken) {}
  int64_t size() const override { return size_; }
  ImageShape shape() const override { return {1, 1, 2}; }
  int classes() const override { return static_cast<int>(size_); }
  std::string description() const override { return absl::StrCat(size_, " numbers"); }
  absl::Status Get(int64_t index, absl::Span<float> pixels, int64_t* label) const override {
    if (broken_.count(index) > 0) return absl::DataLossError("bad sector");
    if (delay > absl::ZeroDuration()) absl::SleepFor(delay);
    reads.fetch_add(1);
    pixels[0] = static_cast<float>(index);
    pixels[1] = static_cast<float>(index) + 0.5f;
    *label = index;
    return absl::OkStatus();
  }
  absl::Duration delay = absl::ZeroDuration();
  mutable std::atomic<int64_t> reads{0};

 private:
  const int64_t size_;
  const std::set<int64_t> broken_;
};

LoaderOptions Options(int64_t micro_batch, int accumulation, int world_size) {
  LoaderOptions options;
  options.split = {micro_batch, accumulation, world_size};
  options.seed = 42;
  return options;
}

// Half of the samples are mirrored: the first pixel is i + 0.5.
std::shared_ptr<const SampleSource> Samples(std::shared_ptr<const Numbers> numbers) {
  AugmentOptions augment;
  augment.horizontal_flip_probability = 0.5;
  return *MakeDatasetSource(std::move(numbers), augment);
}
std::shared_ptr<const SampleSource> Plain(std::shared_ptr<const Numbers> numbers) {
  return *MakeDatasetSource(std::move(numbers), {});
}

std::unique_ptr<Loader> Make(const LoaderOptions& options, int64_t size, LoaderState start = {}) {
  auto loader = Loader::Create(Samples(std::make_shared<Numbers>(size)), options, start);
  EXPECT_TRUE(loader.ok()) << loader.status();
  return *std::move(loader);
}

// One global batch in the order of its elements: label and first pixel of each.
using Batch = std::vector<std::pair<int64_t, float>>;
Batch Take(Loader* loader, const BatchSplit& split) {
  Batch batch(split.global_batch());
  std::vector<float> images(split.micro_batch * 2);
  std::vector<int64_t> labels(split.micro_batch);
  for (int m = 0; m < split.accumulation; ++m) {
    for (int r = 0; r < split.world_size; ++r) {
      const absl::Status status = loader->Next(r, m, {images.data(), labels.data()});
      EXPECT_TRUE(status.ok()) << status;
      for (int64_t i = 0; i < split.micro_batch; ++i) {
        batch[split.FirstElement(r, m) + i] = {labels[i], images[2 * i]};
      }
    }
  }
  return batch;
}

std::vector<Batch> TakeMany(const LoaderOptions& options, int64_t size, int count,
                            LoaderState start = {}) {
  auto loader = Make(options, size, start);
  std::vector<Batch> batches;
  for (int i = 0; i < count; ++i) batches.push_back(Take(loader.get(), options.split));
  return batches;
}

TEST(Loader, BatchesFollowTheWrittenOrder) {
  const auto batches = TakeMany(Options(2, 2, 2), 20, 5);  // 2 global batches an epoch
  for (int i = 0; i < 5; ++i) {
    const auto order = EpochOrder(20, 42, i / 2, true);
    for (int j = 0; j < 8; ++j) {
      EXPECT_EQ(batches[i][j].first, order[i % 2 * 8 + j]);
      EXPECT_NEAR(batches[i][j].second, static_cast<float>(order[i % 2 * 8 + j]), 0.5);
    }
  }
}

TEST(Loader, ThreadsAndPrefetchDoNotChangeABatch) {
  LoaderOptions options = Options(50, 1, 1);
  const auto expected = TakeMany(options, 170, 8);
  for (const auto& [threads, prefetch] : {std::pair(1, 1), {2, 3}, {4, 1}, {3, 5}}) {
    options.threads = threads;
    options.prefetch = prefetch;
    EXPECT_EQ(TakeMany(options, 170, 8), expected) << threads << " threads, " << prefetch;
  }
}

TEST(Loader, SplittingTheGlobalBatchDifferentlyKeepsItsSamplesAndTheirAugmentation) {
  const auto expected = TakeMany(Options(24, 1, 1), 100, 9);
  int flipped = 0;
  for (const auto& [label, pixel] : expected[0]) flipped += pixel != static_cast<float>(label);
  EXPECT_TRUE(flipped > 2 && flipped < 22) << flipped;
  for (const auto& [micro, accumulation, world] :
       {std::tuple(12, 1, 2), {6, 2, 2}, {3, 2, 4}, {1, 1, 24}, {1, 24, 1}, {2, 3, 4}}) {
    EXPECT_EQ(TakeMany(Options(micro, accumulation, world), 100, 9), expected);
  }
}

TEST(Loader, ProcessesWithSomeOfTheRanksPrepareTheSameSamples) {
  LoaderOptions options = Options(3, 2, 4);
  const auto expected = TakeMany(options, 60, 5);
  for (const auto& [first, ranks] : {std::pair(0, 2), {2, 2}, {3, 1}}) {
    options.first_local_rank = first;
    options.local_ranks = ranks;
    auto data = std::make_shared<Numbers>(60);
    auto loader = Loader::Create(Samples(data), options);
    ASSERT_TRUE(loader.ok()) << loader.status();
    std::vector<float> images(6);
    std::vector<int64_t> labels(3);
    for (const Batch& batch : expected) {
      for (int r = first; r < first + ranks; ++r) {
        for (int m = 0; m < 2; ++m) {
          ASSERT_TRUE((*loader)->Next(r, m, {images.data(), labels.data()}).ok());
          for (int i = 0; i < 3; ++i) {
            EXPECT_EQ(std::pair(labels[i], images[2 * i]),
                      batch[options.split.FirstElement(r, m) + i]);
          }
        }
      }
    }
    loader->reset();
    EXPECT_LE(data->reads, (5 + options.prefetch) * 6 * ranks);
  }
}

TEST(Loader, AnEpochVisitsEverySampleOnceAcrossRanksAndDropsTheTail) {
  const auto batches = TakeMany(Options(2, 2, 3), 100, 16);  // 8 batches of 12 an epoch
  for (int epoch = 0; epoch < 2; ++epoch) {
    std::set<int64_t> seen;
    for (int i = 0; i < 8; ++i) {
      for (const auto& [label, pixel] : batches[epoch * 8 + i]) seen.insert(label);
    }
    EXPECT_EQ(seen.size(), 96u);
  }
  EXPECT_NE(batches[0], batches[8]);
}

TEST(Loader, WithoutDroppingTheLastBatchIsFilledFromTheStartOfTheEpoch) {
  LoaderOptions options = Options(4, 1, 1);
  options.drop_last = false;
  const auto batches = TakeMany(options, 10, 4);
  std::map<int64_t, int> seen;
  for (int i = 0; i < 3; ++i) {
    for (const auto& [label, pixel] : batches[i]) ++seen[label];
  }
  EXPECT_EQ(seen.size(), 10u);
  EXPECT_EQ(batches[2][2], batches[0][0]);
  EXPECT_EQ(batches[2][3], batches[0][1]);
  EXPECT_EQ(batches[3][0].first, EpochOrder(10, 42, 1, true)[0]);
}

TEST(Loader, UnshuffledIsTheOrderOfTheFile) {
  LoaderOptions options = Options(4, 1, 1);
  options.shuffle = false;
  const auto batches = TakeMany(options, 9, 3);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(batches[1][i].first, 4 + i);
    EXPECT_EQ(batches[2][i].first, i);
  }
}

TEST(Loader, ResumingAnywhereEqualsTheUninterruptedRun) {
  const LoaderOptions options = Options(3, 2, 2);
  const auto expected = TakeMany(options, 50, 12);  // 4 batches an epoch
  for (int stop = 0; stop < 12; ++stop) {
    auto first = Make(options, 50);
    for (int i = 0; i < stop; ++i) Take(first.get(), options.split);
    const LoaderState state = first->state();
    EXPECT_EQ(state, (LoaderState{stop / 4, stop % 4}));
    EXPECT_EQ(state, first->After({}, stop));
    EXPECT_EQ(TakeMany(options, 50, 12 - stop, state),
              std::vector<Batch>(expected.begin() + stop, expected.end()));
    // The other way: the same loader goes back.
    ASSERT_TRUE(first->Seek({0, 1}).ok());
    EXPECT_EQ(first->state(), (LoaderState{0, 1}));
    EXPECT_EQ(Take(first.get(), options.split), expected[1]);
    EXPECT_EQ(Take(first.get(), options.split), expected[2]);
  }
}

TEST(Loader, AResumedRunMayUseAnotherWorldSize) {
  auto first = Make(Options(6, 1, 2), 50);
  Take(first.get(), {6, 1, 2});
  const auto rest = TakeMany(Options(3, 1, 4), 50, 5, first->state());
  for (const Batch& batch : rest) EXPECT_EQ(Take(first.get(), {6, 1, 2}), batch);
}

TEST(Loader, PreparedAndHalfTakenBatchesDoNotMoveTheState) {
  auto data = std::make_shared<Numbers>(64);
  LoaderOptions options = Options(2, 1, 2);
  options.prefetch = 3;
  auto loader = *Loader::Create(Plain(data), options);
  while (data->reads < 12) absl::SleepFor(absl::Milliseconds(1));  // all three are prepared
  EXPECT_EQ(loader->state(), (LoaderState{0, 0}));
  std::vector<float> images(4);
  std::vector<int64_t> labels(2);
  ASSERT_TRUE(loader->Next(1, 0, {images.data(), labels.data()}).ok());
  EXPECT_EQ(loader->state(), (LoaderState{0, 0}));
  ASSERT_TRUE(loader->Next(0, 0, {images.data(), labels.data()}).ok());
  EXPECT_EQ(loader->state(), (LoaderState{0, 1}));
}

TEST(Loader, NoMoreThanThePrefetchedBatchesAreRead) {
  auto data = std::make_shared<Numbers>(1000);
  LoaderOptions options = Options(4, 1, 1);
  options.threads = 2;
  auto loader = *Loader::Create(Plain(data), options);
  while (data->reads < 8) absl::SleepFor(absl::Milliseconds(1));
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(data->reads, 8);
  EXPECT_EQ(loader->buffer_bytes(), 2 * 4 * (2 * 4 + 8));
}

TEST(Loader, RanksOnTheirOwnThreadsMayDriftApartAndStillGetTheirBatches) {
  LoaderOptions options = Options(4, 2, 4);
  options.threads = 2;
  const int steps = 40;
  const auto expected = TakeMany(options, 333, steps);
  auto loader = Make(options, 333);
  std::vector<Batch> got(steps, Batch(32));
  std::vector<std::thread> ranks;
  for (int r = 0; r < 4; ++r) {
    ranks.emplace_back([&, r] {
      std::vector<float> images(8);
      std::vector<int64_t> labels(4);
      for (int s = 0; s < steps; ++s) {
        if ((s + r) % 7 == 0) absl::SleepFor(absl::Microseconds(300));
        for (int m = 0; m < 2; ++m) {
          EXPECT_TRUE(loader->Next(r, m, {images.data(), labels.data()}).ok());
          for (int i = 0; i < 4; ++i) {
            got[s][options.split.FirstElement(r, m) + i] = {labels[i], images[2 * i]};
          }
        }
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(got, expected);
}

TEST(Loader, AnErrorComesWithTheBatchItBelongsToAndNamesTheFirstBrokenSample) {
  for (const int threads : {1, 4}) {
    LoaderOptions options = Options(100, 1, 1);
    options.shuffle = false;
    options.threads = threads;
    auto loader = *Loader::Create(
        Plain(std::make_shared<Numbers>(300, std::set<int64_t>{190, 150, 199})), options);
    std::vector<float> images(200);
    std::vector<int64_t> labels(100);
    EXPECT_TRUE(loader->Next(0, 0, {images.data(), labels.data()}).ok());
    for (int again = 0; again < 2; ++again) {
      ExpectError(loader->Next(0, 0, {images.data(), labels.data()}), absl::StatusCode::kDataLoss,
                  {"sample 150 (epoch 0, global batch 1, rank 0): bad sector"});
    }
    EXPECT_EQ(loader->state(), (LoaderState{0, 1}));
    ASSERT_TRUE(loader->Seek({0, 2}).ok());
    EXPECT_TRUE(loader->Next(0, 0, {images.data(), labels.data()}).ok());
  }
}

TEST(Loader, SkippingPutsTheNextGoodSampleOfTheOrderInThePlaceOfABadOne) {
  const std::set<int64_t> broken = {3, 4, 11, 29};
  for (const int threads : {1, 4}) {
    LoaderOptions options = Options(10, 1, 1);
    options.shuffle = false;
    options.threads = threads;
    options.on_error = OnError::kSkip;
    std::mutex mutex;
    std::vector<std::string> told;
    options.report_bad = [&](const BadSample& bad) {
      std::lock_guard<std::mutex> lock(mutex);
      told.push_back(bad.name + ": " + bad.message);
    };
    auto loader = *Loader::Create(Plain(std::make_shared<Numbers>(30, broken)), options);
    for (int epoch = 0; epoch < 2; ++epoch) {
      std::vector<int64_t> seen;
      for (int i = 0; i < 3; ++i) {
        for (const auto& [label, pixel] : Take(loader.get(), options.split)) seen.push_back(label);
      }
      for (int64_t i = 0; i < 30; ++i) {
        const int64_t expected = i == 3 || i == 4 ? 5 : i == 11 ? 12 : i == 29 ? 0 : i;
        EXPECT_EQ(seen[i], expected);
      }
    }
    std::vector<int64_t> bad;
    for (const BadSample& b : loader->bad_samples().list()) bad.push_back(b.index);
    EXPECT_EQ(bad, (std::vector<int64_t>{3, 4, 11, 29}));
    EXPECT_EQ(told.size(), 4u) << "each once";
    EXPECT_NE(std::find(told.begin(), told.end(), "sample 11: bad sector"), told.end());
  }
}

TEST(Loader, WhereNoSampleCanBeReadSkippingEndsWithAnError) {
  LoaderOptions options = Options(2, 1, 1);
  options.on_error = OnError::kSkip;
  auto loader =
      *Loader::Create(Plain(std::make_shared<Numbers>(4, std::set<int64_t>{0, 1, 2, 3})), options);
  std::vector<float> images(4);
  std::vector<int64_t> labels(2);
  ExpectError(loader->Next(0, 0, {images.data(), labels.data()}), absl::StatusCode::kDataLoss,
              {"none of the 4 samples of 4 numbers can be read", "bad sector"});
}

TEST(Loader, ADataSetSmallerThanOneGlobalBatchIsAnErrorWithTheNumbers) {
  ExpectError(Loader::Create(Plain(std::make_shared<Numbers>(10)), Options(2, 3, 2)).status(),
              absl::StatusCode::kInvalidArgument,
              {"global batch of 12 (micro_batch 2 x accumulation 3 x world_size 2)",
               "more than all samples of 10 numbers"});
}

TEST(Loader, AllMistakesOfTheOptionsAreReportedAtOnce) {
  LoaderOptions options = Options(0, 1, 1);
  options.threads = 0;
  options.prefetch = 0;
  options.local_ranks = 2;
  ExpectError(Loader::Create(Plain(std::make_shared<Numbers>(10)), options).status(),
              absl::StatusCode::kInvalidArgument,
              {"micro_batch is 0", "threads is 0", "prefetch is 0", "local ranks [0, 2)"});
  ExpectError(
      Loader::Create(Plain(std::make_shared<Numbers>(10)), Options(5, 1, 1), {0, 2}).status(),
      absl::StatusCode::kInvalidArgument,
      {"cannot start at epoch 0, batch 2: an epoch has 2", "another global batch size"});
  auto loader = Make(Options(5, 1, 1), 10);
  EXPECT_FALSE(loader->Seek({1, 2}).ok());
  ExpectError(loader->Next(1, 0, {}), absl::StatusCode::kInvalidArgument,
              {"rank 1, micro-batch 0", "ranks 0..0"});
  ExpectError(loader->Next(0, 0, {}), absl::StatusCode::kInvalidArgument,
              {"asked for 0 tensors", "has 2"});
}

TEST(Loader, StopWakesAWaitingRankAndTheDestructorDoesNotWaitForTheBatch) {
  auto data = std::make_shared<Numbers>(1000);
  data->delay = absl::Milliseconds(20);  // a batch would take 20 s
  auto loader = *Loader::Create(Plain(data), Options(1000, 1, 1));
  const absl::Time start = absl::Now();
  std::thread rank([&] {
    std::vector<float> images(2000);
    std::vector<int64_t> labels(1000);
    EXPECT_EQ(loader->Next(0, 0, {images.data(), labels.data()}).code(),
              absl::StatusCode::kCancelled);
  });
  absl::SleepFor(absl::Milliseconds(30));
  loader->Stop();
  rank.join();
  loader.reset();
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

}  // namespace
}  // namespace millrace
