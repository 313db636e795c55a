// See issue_log.h.
#include "dist/issue_log.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

constexpr size_t kKept = 3;  // last calls told of each member

std::string Times(uint64_t n, absl::string_view what) {
  return absl::StrCat(n, " ", what, n == 1 ? "" : "s");
}

}  // namespace

IssueLog::IssueLog(std::string name, int size, const std::vector<int>& local)
    : name_(std::move(name)), size_(size), local_(local), members_(local.size()) {}

int IssueLog::IndexOf(int rank) const {
  return static_cast<int>(std::lower_bound(local_.begin(), local_.end(), rank) - local_.begin());
}

absl::Status IssueLog::Add(int rank, const Collective& call) {
  std::lock_guard<std::mutex> lock(mu_);
  RETURN_IF_ERROR(broken_);
  Member& member = members_[IndexOf(rank)];
  ++member.calls;
  const bool p2p = IsPointToPoint(call.kind);
  const CallRecord record = RecordOf(call, p2p ? 0 : ++member.collectives);
  member.last.push_back(record);
  if (member.last.size() > kKept) member.last.pop_front();
  broken_ = Annotate(p2p ? AddHalf(rank, record) : AddCollective(rank, record), name_);
  return broken_;
}

absl::Status IssueLog::AddCollective(int rank, const CallRecord& record) {
  const uint64_t at = record.index - 1 - done_collectives_;
  if (at == open_.size()) {
    for (size_t m = 0; m < members_.size(); ++m) {
      if (members_[m].left) {
        return absl::CancelledError(absl::StrCat("rank ", local_[m], " has left; it will not join ",
                                                 ToText(record), " of rank ", rank));
      }
    }
    Open open;
    open.record = record;
    open.first = rank;
    open.joined.resize(members_.size());
    open.missing = static_cast<int>(members_.size());
    open_.push_back(std::move(open));
  }
  Open& open = open_[at];
  RETURN_IF_ERROR(Agree(open.first, open.record, rank, record));
  open.joined[IndexOf(rank)] = true;
  --open.missing;
  while (!open_.empty() && open_.front().missing == 0) {
    open_.pop_front();
    ++done_collectives_;
  }
  return absl::OkStatus();
}

absl::Status IssueLog::AddHalf(int rank, const CallRecord& record) {
  const int peer = record.root_or_peer;
  if (!std::binary_search(local_.begin(), local_.end(), peer)) return absl::OkStatus();
  const bool sends = record.kind == CollectiveKind::kSend;
  auto& waiting = halves_[sends ? std::make_pair(rank, peer) : std::make_pair(peer, rank)];
  if (waiting.empty() || waiting.front().kind == record.kind) {
    if (members_[IndexOf(peer)].left) {
      return absl::CancelledError(
          absl::StrCat("rank ", peer, " has left; it will not meet ", ToText(record)));
    }
    waiting.push_back(record);
    return absl::OkStatus();
  }
  const CallRecord theirs = waiting.front();
  waiting.pop_front();
  RETURN_IF_ERROR(sends ? Agree(rank, record, peer, theirs) : Agree(peer, theirs, rank, record));
  if (theirs.tag == record.tag) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("rank ", peer, " called ", ToText(theirs), ", which meets ", ToText(record),
                   " of rank ", rank,
                   ": without tags the k-th send meets the k-th receive, so both have to issue the "
                   "transfers between them in one order"));
}

void IssueLog::Complete(int rank, uint64_t calls) {
  std::lock_guard<std::mutex> lock(mu_);
  Member& member = members_[IndexOf(rank)];
  member.told = true;
  member.completed = std::max(member.completed, std::min(calls, member.calls));
}

void IssueLog::Leave(int rank) {
  std::lock_guard<std::mutex> lock(mu_);
  members_[IndexOf(rank)].left = true;
}

uint64_t IssueLog::issued(int rank) const {
  std::lock_guard<std::mutex> lock(mu_);
  return members_[IndexOf(rank)].calls;
}

std::vector<IssueLog::Standing> IssueLog::Waiting() const {
  std::lock_guard<std::mutex> lock(mu_);
  std::vector<Standing> waiting;
  for (size_t m = 0; m < members_.size(); ++m) {
    const Member& member = members_[m];
    if (member.calls > member.completed) {
      waiting.push_back({local_[m], member.calls, member.completed});
    }
  }
  return waiting;
}

std::string IssueLog::Describe() const {
  std::lock_guard<std::mutex> lock(mu_);
  std::vector<std::string> lines = {
      absl::StrCat("group '", name_, "' of ", size_, ", ", local_.size(), " in this process")};
  // Who misses calls of others. Of each member only the first it has not come to: it is in none of
  // the later ones either.
  for (size_t m = 0; m < members_.size(); ++m) {
    const auto open =
        std::find_if(open_.begin(), open_.end(), [m](const Open& o) { return !o.joined[m]; });
    if (open == open_.end()) continue;
    lines.push_back(absl::StrCat("rank ", local_[m], " has not issued ", ToText(open->record),
                                 " (call ", open->record.index, ")",
                                 members_[m].left ? "; it has left" : ""));
    if (members_[m].last.empty()) {
      absl::StrAppend(&lines.back(), "; it has issued nothing");
    } else {
      absl::StrAppend(&lines.back(), "; its last call was ", ToText(members_[m].last.back()));
    }
  }
  for (const auto& [ends, halves] : halves_) {
    if (halves.empty()) continue;
    const CallRecord& first = halves.front();
    const bool sends = first.kind == CollectiveKind::kSend;
    lines.push_back(absl::StrCat("rank ", sends ? ends.second : ends.first, " has not issued its ",
                                 sends ? "receive" : "send", " for ", ToText(first), " of rank ",
                                 sends ? ends.first : ends.second));
  }
  for (size_t m = 0; m < members_.size(); ++m) {
    const Member& member = members_[m];
    std::string line =
        absl::StrCat("rank ", local_[m], " has issued ", Times(member.calls, "call"));
    if (member.told) absl::StrAppend(&line, ", of which ", member.completed, " are complete");
    if (!member.last.empty()) {
      absl::StrAppend(&line, "; last: ",
                      absl::StrJoin(member.last, ", ", [](std::string* out, const CallRecord& r) {
                        absl::StrAppend(out, ToText(r));
                      }));
    }
    lines.push_back(std::move(line));
  }
  return absl::StrJoin(lines, "\n");
}

}  // namespace millrace
