#include "data/loader.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/base/findings.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

// Samples that a thread claims at a time: enough to make the lock cheap beside them, few enough to
// share one batch among threads.
constexpr int64_t kChunk = 32;

}  // namespace

// Global batches are numbered through all epochs: sequence = epoch * batches_per_epoch + batch.
// Batch s lives in slot s % prefetch while head_ <= s < head_ + prefetch, where head_ is the oldest
// batch not taken by everybody; a slot is given to batch s + prefetch when head_ passes s.
//
// std::mutex rather than absl::Mutex: the thread sanitizer knows the former without a rebuilt
// Abseil.
class Loader::Impl {
 public:
  Impl(std::shared_ptr<const SampleSource> source, const LoaderOptions& options, int64_t start)
      : source_(std::move(source)),
        options_(options),
        bad_(options.report_bad),
        blocks_(options.local_ranks * options.split.accumulation),
        elements_(blocks_ * options.split.micro_batch),
        per_epoch_(BatchesPerEpoch(*source_, options)),
        slots_(options.prefetch),
        next_(blocks_, start),
        head_(start),
        claim_(start) {
    for (const FieldSpec& field : source_->fields()) bytes_.push_back(field.bytes());
    for (Slot& slot : slots_) {
      for (const int64_t bytes : bytes_) slot.fields.emplace_back(elements_ * bytes);
    }
    for (int t = 0; t < options_.threads; ++t) threads_.emplace_back([this] { Work(); });
  }

  ~Impl() {
    Stop();
    for (std::thread& thread : threads_) thread.join();
  }

  static int64_t BatchesPerEpoch(const SampleSource& source, const LoaderOptions& options) {
    const int64_t global = options.split.global_batch();
    return options.drop_last ? source.size() / global : (source.size() + global - 1) / global;
  }

  absl::Status Next(int rank, int micro, absl::Span<void* const> tensors) {
    const int local = rank - options_.first_local_rank;
    if (local < 0 || local >= options_.local_ranks || micro < 0 ||
        micro >= options_.split.accumulation) {
      return absl::InvalidArgumentError(absl::StrCat(
          "loader asked for rank ", rank, ", micro-batch ", micro, "; it has ranks ",
          options_.first_local_rank, "..", options_.first_local_rank + options_.local_ranks - 1,
          " and micro-batches 0..", options_.split.accumulation - 1));
    }
    if (tensors.size() != bytes_.size()) {
      return absl::InvalidArgumentError(absl::StrCat("loader asked for ", tensors.size(),
                                                     " tensors, ", source_->description(), " has ",
                                                     bytes_.size()));
    }
    const int64_t block = int64_t{micro} * options_.local_ranks + local;
    const int64_t count = options_.split.micro_batch;
    std::unique_lock<std::mutex> lock(mutex_);
    const int64_t sequence = next_[block];
    Slot& slot = SlotOf(sequence);
    ready_.wait(lock, [&] { return stop_ || slot.ready == sequence; });
    if (stop_) return absl::CancelledError("the loader was stopped");
    if (!slot.error.ok()) return slot.error;
    lock.unlock();
    // Nobody writes to a ready slot before this block counts as taken.
    for (size_t f = 0; f < bytes_.size(); ++f) {
      std::memcpy(tensors[f], slot.fields[f].data() + block * count * bytes_[f], count * bytes_[f]);
    }
    lock.lock();
    next_[block] = sequence + 1;
    if (++slot.taken == blocks_) {
      head_ = sequence + 1;
      work_.notify_all();
    }
    return absl::OkStatus();
  }

  LoaderState state() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return {head_ / per_epoch_, head_ % per_epoch_};
  }

  void Seek(int64_t sequence) {
    std::unique_lock<std::mutex> lock(mutex_);
    paused_ = true;
    idle_.wait(lock, [&] { return working_ == 0; });
    head_ = claim_ = sequence;
    claim_element_ = 0;
    std::fill(next_.begin(), next_.end(), sequence);
    for (Slot& slot : slots_) slot.ready = -1;
    paused_ = false;
    work_.notify_all();
  }

  void Stop() {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    work_.notify_all();
    ready_.notify_all();
  }

  const LoaderOptions& options() const { return options_; }
  const SampleSource& source() const { return *source_; }
  const BadSamples& bad() const { return bad_; }
  int64_t per_epoch() const { return per_epoch_; }
  int64_t buffer_bytes() const {
    int64_t sample = 0;
    for (const int64_t bytes : bytes_) sample += bytes;
    return options_.prefetch * elements_ * sample;
  }

 private:
  struct Slot {
    int64_t ready = -1;     // the sequence that can be taken
    int64_t remaining = 0;  // elements still to be prepared
    int64_t taken = 0;      // (rank, micro-batch) pairs that have their part
    absl::Status error;
    int64_t error_element = 0;
    // By field: the local elements in the order of micro-batch, local rank, place in micro-batch.
    std::vector<std::vector<uint8_t>> fields;
  };
  using Order = std::shared_ptr<const std::vector<int64_t>>;

  Slot& SlotOf(int64_t sequence) { return slots_[sequence % options_.prefetch]; }

  void Work() {
    const std::unique_ptr<SampleScratch> scratch = source_->NewScratch();
    std::vector<void*> out(bytes_.size());
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      work_.wait(lock, [&] { return stop_ || (!paused_ && claim_ < head_ + options_.prefetch); });
      if (stop_) return;
      const int64_t sequence = claim_;
      const int64_t first = claim_element_;
      const int64_t last = std::min(first + kChunk, elements_);
      Slot& slot = SlotOf(sequence);
      if (first == 0) {
        slot.remaining = elements_;
        slot.taken = 0;
        slot.error = absl::OkStatus();
        slot.error_element = std::numeric_limits<int64_t>::max();
      }
      claim_element_ = last;
      if (last == elements_) {
        ++claim_;
        claim_element_ = 0;
      }
      ++working_;
      lock.unlock();

      int64_t element = first;
      absl::Status status;
      const Order order = OrderOf(sequence / per_epoch_);
      for (; element < last && status.ok() && !stop_; ++element) {
        for (size_t f = 0; f < bytes_.size(); ++f) {
          out[f] = slot.fields[f].data() + element * bytes_[f];
        }
        status = Prepare(*order, sequence, element, out, scratch.get());
      }

      lock.lock();
      if (!status.ok() && element - 1 < slot.error_element) {
        slot.error_element = element - 1;
        slot.error = std::move(status);
      }
      slot.remaining -= last - first;
      if (slot.remaining == 0) {
        slot.ready = sequence;
        ready_.notify_all();
      }
      if (--working_ == 0 && paused_) idle_.notify_all();
    }
  }

  absl::Status Prepare(const std::vector<int64_t>& order, int64_t sequence, int64_t element,
                       absl::Span<void* const> out, SampleScratch* scratch) {
    const BatchSplit& split = options_.split;
    const int64_t epoch = sequence / per_epoch_, batch = sequence % per_epoch_;
    const int64_t block = element / split.micro_batch;
    const int rank = options_.first_local_rank + static_cast<int>(block % options_.local_ranks);
    const int micro = static_cast<int>(block / options_.local_ranks);
    const int64_t place = batch * split.global_batch() + split.FirstElement(rank, micro) +
                          element % split.micro_batch;
    const int64_t size = static_cast<int64_t>(order.size());
    const int64_t sample = order[place < size ? place : place - size];
    // The place keeps its randomness: where a neighbour stands in, it is changed in another way than
    // in its own place.
    const SampleKey key = KeyOf(options_.seed, epoch, sample);
    absl::Status read;
    for (int64_t tried = 0; tried < size && !stop_; ++tried) {
      const int64_t index = order[(place + tried) % size];
      if (options_.on_error == OnError::kSkip && bad_.Contains(index)) continue;
      read = source_->Get(index, key, out, scratch);
      if (read.ok()) return read;
      if (options_.on_error == OnError::kFail) {
        return Annotate(read, "sample ", index, " (epoch ", epoch, ", global batch ", batch,
                        ", rank ", rank, ")");
      }
      bad_.Add(index, source_->NameOf(index), read);
    }
    if (stop_) return absl::CancelledError("the loader was stopped");
    const std::vector<BadSample> all = bad_.list();
    return absl::DataLossError(
        absl::StrCat("none of the ", size, " samples of ", source_->description(),
                     " can be read; the first: ", all.empty() ? "" : all[0].message));
  }

  // Around the turn of an epoch two orders are in use; older ones end with their last user.
  Order OrderOf(int64_t epoch) {
    std::lock_guard<std::mutex> lock(order_mutex_);
    auto& [cached_epoch, cached] = orders_[epoch % 2];
    if (cached == nullptr || cached_epoch != epoch) {
      cached_epoch = epoch;
      cached = std::make_shared<const std::vector<int64_t>>(
          EpochOrder(source_->size(), options_.seed, epoch, options_.shuffle));
    }
    return cached;
  }

  const std::shared_ptr<const SampleSource> source_;
  const LoaderOptions options_;
  BadSamples bad_;
  std::vector<int64_t> bytes_;  // by field, of one sample
  const int64_t blocks_;        // (rank, micro-batch) pairs of this process
  const int64_t elements_;      // samples of a global batch that this process prepares
  const int64_t per_epoch_;

  mutable std::mutex mutex_;
  std::condition_variable work_, ready_, idle_;
  std::vector<Slot> slots_;
  std::vector<int64_t> next_;  // by block: the sequence it takes next
  int64_t head_;
  int64_t claim_;  // the batch that is being handed out to threads, and its first free element
  int64_t claim_element_ = 0;
  int working_ = 0;
  bool paused_ = false;
  std::atomic<bool> stop_{false};  // written under the mutex, read without it between samples

  std::mutex order_mutex_;
  std::pair<int64_t, Order> orders_[2];

  std::vector<std::thread> threads_;
};

absl::StatusOr<std::unique_ptr<Loader>> Loader::Create(std::shared_ptr<const SampleSource> source,
                                                       const LoaderOptions& given,
                                                       LoaderState start) {
  LoaderOptions options = given;
  const BatchSplit& split = options.split;
  if (options.local_ranks == 0) {
    options.local_ranks = split.world_size - options.first_local_rank;
  }
  Findings findings;
  const auto require = [&findings](bool ok, std::string message, std::string suggestion = "") {
    if (!ok)
      findings.Add({.check = "loader", .message = std::move(message), .suggestion = suggestion});
    return ok;
  };
  const auto at_least_one = [&require](absl::string_view name, int64_t value) {
    return require(value >= 1, absl::StrCat(name, " is ", value, ", expected 1 or more"));
  };
  bool sizes = at_least_one("micro_batch", split.micro_batch);
  sizes &= at_least_one("accumulation", split.accumulation);
  sizes &= at_least_one("world_size", split.world_size);
  at_least_one("threads", options.threads);
  at_least_one("prefetch", options.prefetch);
  require(options.first_local_rank >= 0 && options.local_ranks >= 1 &&
              options.first_local_rank + options.local_ranks <= split.world_size,
          absl::StrCat("local ranks [", options.first_local_rank, ", ",
                       options.first_local_rank + options.local_ranks, ") of world_size ",
                       split.world_size));
  if (sizes && require(source->size() >= split.global_batch(),
                       absl::StrCat("a global batch of ", split.global_batch(), " (micro_batch ",
                                    split.micro_batch, " x accumulation ", split.accumulation,
                                    " x world_size ", split.world_size,
                                    ") is more than all samples of ", source->description()),
                       "lower micro_batch or accumulation")) {
    const int64_t per_epoch = Impl::BatchesPerEpoch(*source, options);
    require(start.epoch >= 0 && start.batch >= 0 && start.batch < per_epoch,
            absl::StrCat("cannot start at epoch ", start.epoch, ", batch ", start.batch,
                         ": an epoch has ", per_epoch, " global batches of ", split.global_batch()),
            "was the state saved with another global batch size?");
  }
  RETURN_IF_ERROR(findings.ToStatus());
  const int64_t sequence = start.epoch * Impl::BatchesPerEpoch(*source, options) + start.batch;
  return std::unique_ptr<Loader>(
      new Loader(std::make_unique<Impl>(std::move(source), options, sequence)));
}

Loader::Loader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Loader::~Loader() = default;

absl::Status Loader::Next(int rank, int micro_batch, absl::Span<void* const> tensors) {
  return impl_->Next(rank, micro_batch, tensors);
}
LoaderState Loader::state() const { return impl_->state(); }

LoaderState Loader::After(LoaderState from, int64_t batches) const {
  const int64_t sequence = from.epoch * impl_->per_epoch() + from.batch + batches;
  return {sequence / impl_->per_epoch(), sequence % impl_->per_epoch()};
}

absl::Status Loader::Seek(LoaderState state) {
  if (state.epoch < 0 || state.batch < 0 || state.batch >= impl_->per_epoch()) {
    return absl::InvalidArgumentError(absl::StrCat("cannot go to epoch ", state.epoch, ", batch ",
                                                   state.batch, ": an epoch has ",
                                                   impl_->per_epoch(), " global batches"));
  }
  impl_->Seek(state.epoch * impl_->per_epoch() + state.batch);
  return absl::OkStatus();
}

void Loader::Stop() { impl_->Stop(); }
const SampleSource& Loader::source() const { return impl_->source(); }
const BadSamples& Loader::bad_samples() const { return impl_->bad(); }
int64_t Loader::global_batch() const { return impl_->options().split.global_batch(); }
int64_t Loader::batches_per_epoch() const { return impl_->per_epoch(); }
int64_t Loader::buffer_bytes() const { return impl_->buffer_bytes(); }

}  // namespace millrace
