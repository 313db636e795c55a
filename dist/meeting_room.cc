// See meeting_room.h.
#include "dist/meeting_room.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "dist/shares.h"
#include "graph/base/status.h"

namespace millrace {
namespace in_process {

MeetingRoom::MeetingRoom(int size, const InProcessOptions& options) : options_(options) {
  for (int r = 0; r < size; ++r) members_.push_back(std::make_unique<Member>());
}

void MeetingRoom::Start(int rank, const Collective& call, Done done) {
  const absl::Status valid = Validate(call, rank, size());
  Lock lock(mu_);
  if (why_.ok() && !valid.ok()) AbortLocked(Annotate(valid, options_.name, ": rank ", rank));
  if (!why_.ok()) {
    endings_.emplace_back(std::move(done), why_);
  } else if (IsPointToPoint(call.kind)) {
    PostTransfer(rank, call, std::move(done));
  } else {
    Join(rank, call, std::move(done));
  }
  Advance(lock);
}

void MeetingRoom::Join(int rank, const Collective& call, Done done) {
  Member& member = *members_[rank];
  const uint64_t k = member.started++;
  while (meetings_.size() <= k - first_) meetings_.push_back(std::make_unique<Meeting>(size()));
  Meeting& meeting = *meetings_[k - first_];
  const CallRecord record = RecordOf(call, k + 1);
  member.has_last = true;
  member.last = record;
  absl::Status agreed;
  if (meeting.joined == 0) {
    meeting.first_rank = rank;
    meeting.first = record;
  } else {
    agreed = Agree(meeting.first_rank, meeting.first, rank, record);
  }
  meeting.calls[rank] = call;
  meeting.dones[rank] = std::move(done);
  meeting.here[rank] = true;
  ++meeting.joined;
  if (!agreed.ok()) return AbortLocked(Annotate(agreed, options_.name));
  for (int r = 0; r < size(); ++r) {
    if (members_[r]->left) {
      return AbortLocked(absl::CancelledError(absl::StrCat(
          options_.name, ": rank ", r, " left before ", ToText(record), " (call ", k + 1, ")")));
    }
  }
  if (meeting.joined == size()) ready_ = k + 1;
}

void MeetingRoom::PostTransfer(int rank, const Collective& call, Done done) {
  const bool sends = call.kind == CollectiveKind::kSend;
  const int peer = call.root_or_peer;
  const ChannelKey key(sends ? rank : peer, sends ? peer : rank, call.tag);
  Channel& channel = channels_[key];
  (sends ? channel.sends : channel.recvs).push_back({call, std::move(done)});
  if (members_[peer]->left && (sends ? channel.recvs : channel.sends).empty()) {
    return AbortLocked(
        absl::CancelledError(absl::StrCat(options_.name, ": rank ", peer, " left before ",
                                          ToText(RecordOf(call, 0)), " of rank ", rank)));
  }
  Match(key);
}

void MeetingRoom::Match(const ChannelKey& key) {
  const auto found = channels_.find(key);
  if (found == channels_.end() || found->second.busy) return;
  Channel& channel = found->second;
  if (channel.sends.empty() && channel.recvs.empty()) {
    channels_.erase(found);
    return;
  }
  if (channel.sends.empty() || channel.recvs.empty()) return;
  const int source = std::get<0>(key), destination = std::get<1>(key);
  const absl::Status agreed = Agree(source, RecordOf(channel.sends.front().call, 0), destination,
                                    RecordOf(channel.recvs.front().call, 0));
  if (!agreed.ok()) return AbortLocked(Annotate(agreed, options_.name));
  Transfer transfer{key, std::move(channel.sends.front()), std::move(channel.recvs.front())};
  channel.sends.pop_front();
  channel.recvs.pop_front();
  channel.busy = true;
  ++members_[source]->transfers_open;
  ++members_[destination]->transfers_open;
  const bool at_once = DoneAtOnce(transfer.send.call);
  (at_once ? transfers_ : members_[destination]->transfers).push_back(std::move(transfer));
}

void MeetingRoom::AbortLocked(const absl::Status& why) {
  if (!why_.ok()) return;
  why_ = why.ok() ? absl::CancelledError("aborted") : why;
  // Ready meetings and matched transfers pass through whoever works on them: only he knows when the
  // buffers are free. All others end here.
  for (uint64_t k = ready_; k < first_ + meetings_.size(); ++k) {
    for (Done& done : meetings_[k - first_]->dones) {
      if (done != nullptr) endings_.emplace_back(std::move(done), why_);
    }
  }
  meetings_.resize(ready_ - first_);
  for (auto& [key, channel] : channels_) {
    for (Post& post : channel.sends) endings_.emplace_back(std::move(post.done), why_);
    for (Post& post : channel.recvs) endings_.emplace_back(std::move(post.done), why_);
    channel.sends.clear();
    channel.recvs.clear();
  }
}

bool MeetingRoom::DoneAtOnce(const Collective& call) const {
  return options_.execution == InProcessOptions::Execution::kInline ||
         BytesWritten(call, size()) <= options_.inline_bytes;
}

bool MeetingRoom::HasWork(const Member& member) const {
  return !member.transfers.empty() || (!advancing_ && member.next < ready_);
}

// Does all that needs no worker, then wakes the workers that have something to do.
void MeetingRoom::Advance(Lock& lock) {
  if (advancing_) return;
  advancing_ = true;
  for (;;) {
    if (!endings_.empty()) {
      auto ending = std::move(endings_.front());
      endings_.pop_front();
      ++endings_running_;
      lock.unlock();
      ending.first(std::move(ending.second));
      ending.first = nullptr;  // what it holds may reach back into the group
      lock.lock();
      --endings_running_;
      settled_.notify_all();
    } else if (!transfers_.empty()) {
      Transfer transfer = std::move(transfers_.front());
      transfers_.pop_front();
      RunTransfer(std::move(transfer), lock);
    } else if (first_ < ready_ && !meetings_.front()->begun &&
               DoneAtOnce(meetings_.front()->calls[0])) {
      Meeting& meeting = *meetings_.front();
      meeting.begun = true;
      meeting.skipped = !why_.ok();
      if (!meeting.skipped) {
        lock.unlock();
        for (int r = 0; r < size(); ++r) DoShare(r, meeting.calls);
        lock.lock();
      }
      for (auto& member : members_) ++member->next;
      End(meeting, lock);
    } else {
      break;
    }
  }
  advancing_ = false;
  for (auto& member : members_) {
    if (HasWork(*member)) member->wake.notify_one();
  }
}

void MeetingRoom::DoShareOf(int rank, Lock& lock) {
  Member& member = *members_[rank];
  Meeting& meeting = *meetings_[member.next - first_];
  meeting.begun = true;
  if (why_.ok()) {
    lock.unlock();
    DoShare(rank, meeting.calls);
    lock.lock();
  } else {
    meeting.skipped = true;
  }
  // Only now may anybody's call end: until the last share is done, somebody may read or write his
  // buffers. `next` goes up after that, so the next meeting cannot overtake these `done`s.
  if (--meeting.shares_left == 0) End(meeting, lock);
  ++member.next;
}

// All shares are done: `meeting` is the oldest one, as every member finishes them in order.
void MeetingRoom::End(Meeting& meeting, Lock& lock) {
  const absl::Status status = meeting.skipped ? why_ : absl::OkStatus();
  lock.unlock();
  for (Done& done : meeting.dones) {
    done(status);
    done = nullptr;
  }
  lock.lock();
  meetings_.pop_front();
  ++first_;
  settled_.notify_all();
}

void MeetingRoom::RunTransfer(Transfer transfer, Lock& lock) {
  const absl::Status status = why_;
  lock.unlock();
  if (status.ok()) DoTransfer(transfer.send.call, transfer.recv.call);
  transfer.recv.done(status);
  transfer.send.done(status);
  transfer.recv.done = transfer.send.done = nullptr;
  lock.lock();
  channels_[transfer.key].busy = false;
  --members_[std::get<0>(transfer.key)]->transfers_open;
  --members_[std::get<1>(transfer.key)]->transfers_open;
  Match(transfer.key);
  settled_.notify_all();
}

void MeetingRoom::Work(int rank) {
  Member& member = *members_[rank];
  Lock lock(mu_);
  for (;;) {
    member.wake.wait(lock, [&] { return member.dismissed || HasWork(member); });
    if (!HasWork(member)) return;
    if (!member.transfers.empty()) {
      Transfer transfer = std::move(member.transfers.front());
      member.transfers.pop_front();
      RunTransfer(std::move(transfer), lock);
    } else {
      DoShareOf(rank, lock);
    }
    Advance(lock);
  }
}

void MeetingRoom::Abort(const absl::Status& why) {
  Lock lock(mu_);
  AbortLocked(why);
  Advance(lock);
}

void MeetingRoom::Leave(int rank) {
  Lock lock(mu_);
  Member& member = *members_[rank];
  member.left = true;
  bool missed = first_ + meetings_.size() > ready_;  // somebody waits: for this member or with it
  for (const auto& [key, channel] : channels_) {
    const bool concerns = std::get<0>(key) == rank || std::get<1>(key) == rank;
    missed = missed || (concerns && !(channel.sends.empty() && channel.recvs.empty()));
  }
  if (missed) {
    AbortLocked(absl::CancelledError(
        absl::StrCat(options_.name, ": rank ", rank, " left while calls were pending")));
  }
  Advance(lock);
  settled_.wait(lock, [&] {
    return first_ == ready_ && member.transfers_open == 0 && endings_.empty() &&
           endings_running_ == 0;
  });
}

void MeetingRoom::Dismiss(int rank) {
  Lock lock(mu_);
  members_[rank]->dismissed = true;
  members_[rank]->wake.notify_one();
}

std::string MeetingRoom::Absence(const Meeting& meeting, uint64_t index) const {
  std::vector<std::string> absent;
  for (int r = 0; r < size(); ++r) {
    if (meeting.here[r]) continue;
    const Member& m = *members_[r];
    absent.push_back(absl::StrCat("rank ", r, m.left ? " left and" : "", " has not joined ",
                                  ToText(meeting.first), " (call ", index, "); ",
                                  m.has_last ? absl::StrCat("its last call was ", ToText(m.last),
                                                            " (call ", m.last.index, ")")
                                             : std::string("it has started no call")));
  }
  return absl::StrJoin(absent, "\n");
}

std::string MeetingRoom::Describe() const {
  Lock lock(mu_);
  std::vector<std::string> lines;
  lines.push_back(absl::StrCat(options_.name, " of ", size(), " ranks: ", first_, " calls ended"));
  if (!why_.ok()) lines.push_back(absl::StrCat("aborted: ", why_.ToString()));
  for (size_t i = 0; i < meetings_.size(); ++i) {
    const Meeting& m = *meetings_[i];
    const uint64_t index = first_ + i + 1;
    if (m.joined == size()) {
      lines.push_back(absl::StrCat(ToText(m.first), " (call ", index, ") is running, ",
                                   m.shares_left, " of ", size(), " shares left"));
    } else {
      // Only the oldest one: the later ones wait for the same ranks, or for it.
      lines.push_back(Absence(m, index));
      break;
    }
  }
  for (int r = 0; r < size(); ++r) {
    const Member& m = *members_[r];
    if (m.started > first_ && m.started > ready_) {
      lines.push_back(absl::StrCat("rank ", r, " waits for ", m.started - ready_,
                                   " call(s), the last ", ToText(m.last), " (call ", m.last.index,
                                   ")"));
    }
  }
  for (const auto& [key, channel] : channels_) {
    const auto& [source, destination, tag] = key;
    for (const Post& post : channel.sends) {
      lines.push_back(absl::StrCat("rank ", source, " waits in ", ToText(RecordOf(post.call, 0)),
                                   ": no matching recv yet"));
    }
    for (const Post& post : channel.recvs) {
      lines.push_back(absl::StrCat("rank ", destination, " waits in ",
                                   ToText(RecordOf(post.call, 0)), ": no matching send yet"));
    }
    (void)tag;
  }
  return absl::StrJoin(lines, "\n");
}

}  // namespace in_process
}  // namespace millrace
