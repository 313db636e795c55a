// See nccl_room.h. How a group begins is in nccl_room_open.cc.
#include "dist/nccl_room.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/base/status.h"

namespace millrace {
namespace nccl_internal {
namespace {

std::vector<int> RanksOf(const std::vector<std::pair<int, std::shared_ptr<NcclDevice>>>& seats) {
  std::vector<int> ranks;
  for (const auto& seat : seats) ranks.push_back(seat.first);
  return ranks;
}

struct AbortOne {
  const NcclApi* api;
  NcclComm* comm;
  static void* Main(void* self) {
    AbortOne& one = *static_cast<AbortOne*>(self);
    one.api->CommAbort(one.comm);
    return nullptr;
  }
};

}  // namespace

Room::Room(const NcclApi& api, const std::vector<int>& ranks,
           std::vector<std::pair<int, std::shared_ptr<NcclDevice>>> seats, RendezvousStore* store,
           const NcclOptions& options)
    : api_(api),
      ranks_(ranks),
      store_(store),
      options_(options),
      seats_(seats.size()),
      log_(options.name, static_cast<int>(ranks.size()), RanksOf(seats)) {
  for (size_t i = 0; i < seats.size(); ++i) {
    seats_[i].rank = seats[i].first;
    seats_[i].device = std::move(seats[i].second);
  }
}

Room::~Room() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    closing_ = true;
  }
  wake_.notify_all();
  if (has_watchdog_) pthread_join(watchdog_, nullptr);
  if (has_ended_ || !Close()) AbortAll([] {});
}

std::string Room::Key(absl::string_view what) const {
  return absl::StrCat("nccl/", options_.name, "/", ranks_[0], "/", options_.generation, "/", what);
}

absl::Status Room::Error(const Seat& seat, absl::string_view what, NcclResult result,
                         NcclComm* comm) const {
  const char* last = api_.GetLastError(comm);
  const std::string text = absl::StrCat(
      "group '", options_.name, "', rank ", seat.rank, " (cuda:", seat.device->ordinal(),
      "): ", what, ": ", api_.GetErrorString(result),
      last == nullptr || *last == 0 ? "" : absl::StrCat(" (", last, ")"));
  const bool ours = result == NcclResult::kInvalidArgument || result == NcclResult::kInvalidUsage;
  return ours ? absl::InternalError(text) : absl::UnavailableError(text);
}

NcclResult Room::AsyncState(NcclComm* comm) const {
  NcclResult state = NcclResult::kSuccess;
  const NcclResult asked = api_.CommGetAsyncError(comm, &state);
  return asked == NcclResult::kSuccess ? state : asked;
}

// ---- Calls.

absl::Status Room::Put(Seat& seat, absl::FunctionRef<std::string()> what,
                       absl::FunctionRef<NcclResult(NcclComm*)> call) {
  NcclResult result;
  absl::Status why;
  {
    std::lock_guard<std::mutex> lock(seat.mu);
    if (seat.comm == nullptr) return ended();
    result = call(seat.comm);
  }
  Clock::time_point deadline;  // the clock is read only where NCCL makes us wait
  for (Pause pause; result == NcclResult::kInProgress; pause()) {
    if (has_ended_) return ended();
    const auto now = Clock::now();
    if (deadline == Clock::time_point()) deadline = now + options_.issue_deadline;
    if (now >= deadline) {
      why = absl::DeadlineExceededError(
          absl::StrCat("rank ", seat.rank, ": NCCL has not taken ", what(), " within ",
                       options_.issue_deadline.count(), " ms\n", Describe()));
      break;
    }
    std::lock_guard<std::mutex> lock(seat.mu);
    if (seat.comm == nullptr) return ended();
    result = AsyncState(seat.comm);
  }
  if (result == NcclResult::kSuccess) return absl::OkStatus();
  if (why.ok()) {
    std::lock_guard<std::mutex> lock(seat.mu);
    why = Error(seat, what(), result, seat.comm);
  }
  End(why);
  return ended();
}

std::string Room::Describe() const {
  std::string text = log_.Describe();
  std::vector<int> remote;
  for (int r = 0; r < size(); ++r) {
    const auto here = [r](const Seat& seat) { return seat.rank == r; };
    if (std::none_of(seats_.begin(), seats_.end(), here)) remote.push_back(r);
  }
  if (!remote.empty()) {
    absl::StrAppend(&text, "\nin other processes, not known: rank ", absl::StrJoin(remote, ", "));
  }
  const absl::Status why = ended();
  if (!why.ok()) absl::StrAppend(&text, "\nended: ", why.message());
  return text;
}

// ---- The end.

void Room::End(const absl::Status& why) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (has_ended_) return;
    why_ = why.ok() ? absl::CancelledError(absl::StrCat("group '", options_.name, "' was aborted"))
                    : why;
    has_ended_ = true;
  }
  wake_.notify_all();
}

absl::Status Room::ended() const {
  if (!has_ended_) return absl::OkStatus();
  std::lock_guard<std::mutex> lock(mu_);
  return why_;
}

// All at once, and the other processes told meanwhile: an abort may wait for those of other members,
// and telling them may wait for the store.
void Room::AbortAll(absl::FunctionRef<void()> meanwhile) {
  std::vector<AbortOne> ones;
  for (Seat& seat : seats_) {
    std::lock_guard<std::mutex> lock(seat.mu);
    if (seat.comm != nullptr) ones.push_back({&api_, std::exchange(seat.comm, nullptr)});
  }
  std::vector<pthread_t> threads;
  std::vector<AbortOne*> without_thread;
  for (AbortOne& one : ones) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, &AbortOne::Main, &one) == 0) {
      threads.push_back(thread);
    } else {
      without_thread.push_back(&one);
    }
  }
  meanwhile();
  for (AbortOne* one : without_thread) AbortOne::Main(one);
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
}

bool Room::Close() {
  for (Seat& seat : seats_) {
    if (seat.comm == nullptr) continue;
    const NcclResult begun = api_.CommFinalize(seat.comm);
    if (begun != NcclResult::kSuccess && begun != NcclResult::kInProgress) return false;
  }
  const auto deadline = Clock::now() + options_.close_deadline;
  for (Seat& seat : seats_) {
    if (seat.comm == nullptr) continue;
    NcclResult state = AsyncState(seat.comm);
    for (Pause pause; state == NcclResult::kInProgress && Clock::now() < deadline; pause()) {
      state = AsyncState(seat.comm);
    }
    if (state != NcclResult::kSuccess) return false;
  }
  for (Seat& seat : seats_) {
    NcclComm* const comm = std::exchange(seat.comm, nullptr);
    if (comm != nullptr && api_.CommDestroy(comm) != NcclResult::kSuccess) api_.CommAbort(comm);
  }
  return true;
}

// The first to end tells the other processes why.
void Room::Publish(const absl::Status& why) {
  if (!HasRemote() || from_elsewhere_) return;
  const absl::StatusOr<int64_t> number = store_->Add(Key("ends"), 1);
  if (!number.ok() || *number != 1) return;
  // Nobody to tell when the store is gone: the others then find out by NCCL or their deadline.
  store_->Set(Key("ended"), std::string(why.message())).IgnoreError();
}

absl::Status Room::EndedElsewhere() {
  const absl::StatusOr<std::string> why = store_->Find(Key("ended"));
  if (!why.ok()) return absl::OkStatus();
  from_elsewhere_ = true;
  return absl::CancelledError(
      absl::StrCat("group '", options_.name, "' was ended by another process: ", *why));
}

// ---- The watchdog.

void* Room::Main(void* self) {
  static_cast<Room*>(self)->Watch();
  return nullptr;
}

void Room::Watch() {
  for (uint64_t round = 1;; ++round) {
    {
      std::unique_lock<std::mutex> lock(mu_);
      wake_.wait_for(lock, options_.watch_every, [this] { return closing_ || has_ended_.load(); });
      if (closing_ && !has_ended_) return;
    }
    if (has_ended_) break;
    absl::Status status = LookAtDevices();
    if (status.ok()) status = LookAtProgress(Clock::now());
    if (status.ok() && HasRemote() && round % 10 == 0) status = EndedElsewhere();
    if (!status.ok()) End(status);
  }
  AbortAll([this] { Publish(ended()); });
}

absl::Status Room::LookAtDevices() {
  for (Seat& seat : seats_) {
    std::lock_guard<std::mutex> lock(seat.mu);
    const NcclResult state = AsyncState(seat.comm);
    if (state != NcclResult::kSuccess && state != NcclResult::kInProgress) {
      return Error(seat, "on the device", state, seat.comm);
    }
  }
  return absl::OkStatus();
}

absl::Status Room::LookAtProgress(Clock::time_point now) {
  if (options_.progress_deadline.count() == 0) return absl::OkStatus();
  std::map<int, std::pair<IssueLog::Standing, Clock::time_point>> standing;
  std::vector<int> stuck;
  for (const IssueLog::Standing& s : log_.Waiting()) {
    const auto before = standing_.find(s.rank);
    const bool same = before != standing_.end() && before->second.first == s;
    const auto since = same ? before->second.second : now;
    standing[s.rank] = {s, since};
    if (now - since >= options_.progress_deadline) stuck.push_back(s.rank);
  }
  standing_ = std::move(standing);
  if (stuck.empty()) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat(
      "group '", options_.name, "': rank ", absl::StrJoin(stuck, ", "), " made no progress for ",
      options_.progress_deadline.count(), " ms\n", Describe()));
}

}  // namespace nccl_internal
}  // namespace millrace
