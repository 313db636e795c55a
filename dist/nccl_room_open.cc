// See nccl_room.h. How a group begins: the unique id, the communicators of all local members at once,
// and what is said when some do not come.
#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "dist/nccl_room.h"
#include "graph/base/status.h"

namespace millrace {
namespace nccl_internal {

using std::chrono::milliseconds;

absl::Status Room::Open() {
  const auto deadline = Clock::now() + options_.init_deadline;
  NcclUniqueId id;
  absl::Status status = ShareId(&id, deadline);
  if (status.ok()) status = Init(id);
  if (status.ok()) status = WaitUntilReady(deadline);
  if (status.ok() && pthread_create(&watchdog_, nullptr, &Room::Main, this) != 0) {
    status = absl::ResourceExhaustedError(
        absl::StrCat("group '", options_.name, "': no thread for the watchdog"));
  }
  if (!status.ok()) {
    End(status);
    AbortAll([&] { Publish(status); });
    return status;
  }
  has_watchdog_ = true;
  pthread_setname_np(watchdog_, absl::StrCat("nccl-", options_.name).substr(0, 15).c_str());
  return absl::OkStatus();
}

// Rank 0 makes the id; the others get it from this process or through the store.
absl::Status Room::ShareId(NcclUniqueId* id, Clock::time_point deadline) {
  if (HasRemote()) {
    for (const Seat& seat : seats_) {
      RETURN_IF_ERROR(store_->Set(Key(absl::StrCat("here/", seat.rank)), "yes"));
    }
  }
  if (seats_[0].rank == 0) {
    // Opens a socket on the network of the current device's machine; takes no memory of the device.
    const NcclResult made = api_.GetUniqueId(id);
    if (made != NcclResult::kSuccess) return Error(seats_[0], "ncclGetUniqueId", made, nullptr);
    if (!HasRemote()) return absl::OkStatus();
    return store_->Set(Key("id"), std::string(id->internal, sizeof(id->internal)));
  }
  while (true) {
    const absl::StatusOr<std::string> text = store_->Get(Key("id"), milliseconds(100));
    if (text.ok()) {
      if (text->size() != sizeof(id->internal)) {
        return absl::InternalError(absl::StrCat(store_->Describe(), ": '", Key("id"), "' has ",
                                                text->size(), " bytes, expected ",
                                                sizeof(id->internal)));
      }
      std::memcpy(id->internal, text->data(), text->size());
      return absl::OkStatus();
    }
    if (!absl::IsDeadlineExceeded(text.status())) return text.status();
    RETURN_IF_ERROR(EndedElsewhere());
    if (Clock::now() >= deadline) return TooLate({});
  }
}

// One thread makes all local members: within a group of calls, else the first would wait for the
// second.
absl::Status Room::Init(const NcclUniqueId& id) {
  NcclConfig config;
  config.blocking = 0;
  config.min_ctas = config.max_ctas = options_.memory.channels;
  const Seat& any = seats_[0];
  const NcclResult started = api_.GroupStart();
  if (started != NcclResult::kSuccess) return Error(any, "ncclGroupStart", started, nullptr);
  absl::Status status;
  for (Seat& seat : seats_) {
    status = Annotate(seat.device->MakeCurrent(), "group '", options_.name, "', rank ", seat.rank);
    if (!status.ok()) break;
    std::lock_guard<std::mutex> lock(seat.mu);
    const NcclResult made = api_.CommInitRankConfig(&seat.comm, size(), id, seat.rank, &config);
    if (made == NcclResult::kSuccess || made == NcclResult::kInProgress) continue;
    status = Error(seat, "ncclCommInitRankConfig", made, nullptr);
    break;
  }
  const NcclResult ended = api_.GroupEnd();  // also after an error: the group of calls is open
  if (status.ok() && ended != NcclResult::kSuccess && ended != NcclResult::kInProgress) {
    status = Error(any, "ncclGroupEnd", ended, nullptr);
  }
  return status;
}

absl::Status Room::WaitUntilReady(Clock::time_point deadline) {
  auto look_elsewhere = Clock::now();
  for (Pause pause;; pause()) {
    std::vector<int> unready;
    for (Seat& seat : seats_) {
      std::lock_guard<std::mutex> lock(seat.mu);
      const NcclResult state = AsyncState(seat.comm);
      if (state == NcclResult::kInProgress) {
        unready.push_back(seat.rank);
      } else if (state != NcclResult::kSuccess) {
        return Error(seat, "making the communicator", state, seat.comm);
      }
    }
    if (unready.empty()) return absl::OkStatus();
    const auto now = Clock::now();
    if (now >= deadline) return TooLate(unready);
    if (HasRemote() && now >= look_elsewhere) {
      RETURN_IF_ERROR(EndedElsewhere());
      look_elsewhere = now + milliseconds(100);
    }
  }
}

absl::Status Room::TooLate(const std::vector<int>& unready) const {
  std::vector<int> absent;
  for (int r = 0; HasRemote() && r < size(); ++r) {
    const absl::Status here = store_->Find(Key(absl::StrCat("here/", r))).status();
    if (absl::IsNotFound(here)) absent.push_back(r);
  }
  std::string text = absl::StrCat("group '", options_.name, "' of ", size(),
                                  " was not made within ", options_.init_deadline.count(), " ms: ");
  if (!absent.empty()) {
    absl::StrAppend(&text, "rank ", absl::StrJoin(absent, ", "), " did not come to ",
                    store_->Describe());
  } else if (unready.empty()) {
    absl::StrAppend(&text, "all ranks came, but rank 0 gave no unique id");
  } else {
    absl::StrAppend(&text, "all ranks came, but NCCL did not finish for rank ",
                    absl::StrJoin(unready, ", "));
  }
  return absl::DeadlineExceededError(text);
}

}  // namespace nccl_internal
}  // namespace millrace
