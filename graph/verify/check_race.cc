// Two accesses to the same byte of an arena, one of them a write, must be ordered by happens-before
// - be it two versions of one value or two buffers that the planner has put in the same place - and
// in the direction that the values demand: the last write before a read is the write of the value
// it reads.
//
// Method. Sweep the operations in a linear extension of happens-before and keep, per run of bytes,
// the last write and the reads since. A read must follow that write, which must be of its value; a
// write must follow that write and those reads. Order is transitive, so when all neighbours are
// ordered all pairs are; and when some pair is not, some neighbours are not. Each write merges the
// bytes it covers into one run, so the runs stay few; of the reads only the latest of each chain is
// kept. An operation's own reads are entered after its writes have been held against the reads of others: they end
// with it, so they say nothing about what must have ended before it begins.
//
// One rank at a time is enough. A collective touches other ranks' memory too, but only between
// their start and their done of the same operation (all members start before any data moves, and no
// member's done precedes the last move), and this rank's access interval, from its start to its
// done, covers exactly that. What overlaps a peer's access to our bytes overlaps our own.
//
// Ranks that share a plan differ only in where their own shards lie, and most of them not even in
// what those lie on (shard_layout.h). The first is checked whole, one of each other layout on the
// bytes that own shards can reach.
#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "graph/verify/access.h"
#include "graph/verify/check.h"
#include "graph/verify/shard_layout.h"

namespace millrace {
namespace verify_internal {
namespace {

constexpr int kUntouched = -1;

struct Run {  // of bytes with one history; the map's key is its first byte
  int64_t high = 0;
  int write = kUntouched;             // the last write, an index of accesses
  absl::InlinedVector<int, 4> reads;  // since then, at most one per chain
};

class Sweep {
 public:
  Sweep(const Context& context, const RankView& view, int rank, Report* report)
      : c_(context), before_(*view.before), rank_(rank), report_(report) {}

  int64_t pairs() const { return pairs_; }

  // The accesses of one operation stand together, its reads before its writes.
  void Go(const std::vector<Access>& accesses) {
    accesses_ = &accesses;
    const int n = static_cast<int>(accesses.size());
    for (int first = 0, end = 0; first < n; first = end) {
      while (end < n && SameOperation(accesses[first], accesses[end])) ++end;
      for (int i = first; i < end; ++i) {
        for (int k = first; k < i && at(i).write; ++k) CheckWithin(at(k), at(i));
        if (!at(i).write) Read(i, /*enter=*/false);
      }
      for (int i = first; i < end; ++i) {
        if (at(i).write) Write(i);
      }
      for (int i = first; i < end; ++i) {
        if (!at(i).write) Read(i, /*enter=*/true);
      }
    }
  }

 private:
  using Runs = std::map<int64_t, Run>;
  const Access& at(int i) const { return (*accesses_)[i]; }
  static bool SameOperation(const Access& a, const Access& b) { return a.begin == b.begin; }

  // Cuts the run that holds `byte` so that a run begins there.
  static void CutAt(Runs* runs, int64_t byte) {
    auto it = runs->upper_bound(byte);
    if (it == runs->begin()) return;
    --it;
    if (it->first == byte || it->second.high <= byte) return;
    Run right = it->second;
    it->second.high = byte;
    runs->emplace_hint(std::next(it), byte, std::move(right));
  }

  // Holds the read against the writes before it, or enters it where its own operation has not written.
  void Read(int i, bool enter) {
    const Access& a = at(i);
    Runs& runs = runs_[static_cast<int>(a.tier)];
    CutAt(&runs, a.low);
    CutAt(&runs, a.high);
    auto it = runs.lower_bound(a.low);
    int64_t byte = a.low;
    int said = kUntouched - 1;
    while (byte < a.high) {
      if (it == runs.end() || it->first > byte) {  // never touched so far
        const int64_t high = it == runs.end() ? a.high : std::min(a.high, it->first);
        it = runs.emplace_hint(it, byte, Run{high, kUntouched, {}});
      }
      Run& run = it->second;
      if (enter) {
        if (run.write == kUntouched || !SameOperation(at(run.write), a)) AddRead(&run, i);
      } else if (said != run.write) {
        CheckRead(i, run.write);
        said = run.write;
      }
      byte = run.high;
      ++it;
    }
  }

  void Write(int i) {
    const Access& a = at(i);
    Runs& runs = runs_[static_cast<int>(a.tier)];
    CutAt(&runs, a.low);
    CutAt(&runs, a.high);
    const auto from = runs.lower_bound(a.low);
    auto it = from;
    int said = kUntouched;
    for (; it != runs.end() && it->first < a.high; ++it) {
      const Run& run = it->second;
      if (run.write != kUntouched && run.write != said) CheckPair(said = run.write, i);
      for (int read : run.reads) CheckPair(read, i);
    }
    runs.erase(from, it);
    runs.emplace(a.low, Run{a.high, i, {}});
  }

  void AddRead(Run* run, int i) {
    const int chain = before_.chain(at(i).end);
    for (int& read : run->reads) {
      if (before_.chain(at(read).end) != chain) continue;
      if (before_.position(at(read).end) <= before_.position(at(i).end)) read = i;
      return;
    }
    run->reads.push_back(i);
  }

  std::string What(const Access& a) const {
    return absl::StrCat(a.write ? "writes " : "reads ", c_.value(a.value).name);
  }
  std::string Where(const Access& a, const Access& b) const {
    return absl::StrCat("[", Bytes(std::max(a.low, b.low)), ", ", Bytes(std::min(a.high, b.high)),
                        ") of ", Name(a.tier), " memory");
  }

  // Accesses met in this order, at least one a write: the first operation must end before the
  // second begins.
  bool CheckPair(int first, int second) {
    const Access &a = at(first), &b = at(second);
    if (SameOperation(a, b)) return true;  // CheckWithin has looked at them
    ++pairs_;
    if (before_.Precedes(a.end, b.begin)) return true;
    report_->Add(rank_, c_.node(b.node).name,
                 absl::StrCat(What(b), " and is not ordered with ", c_.node(a.node).name,
                              ", which ", What(a), ": both touch ", Where(a, b)),
                 absl::StrCat("add an edge ", c_.node(a.end).name, " -> ", c_.node(b.begin).name));
    return false;
  }

  // One operation's own accesses may meet only where the graph itself says so: an update in place,
  // or a collective whose own part lies inside the whole - always within one buffer.
  void CheckWithin(const Access& a, const Access& b) {
    if (a.tier != b.tier || a.low >= b.high || b.low >= a.high) return;
    const bool same_buffer = c_.value(a.value).buffer == c_.value(b.value).buffer;
    const bool same_bytes = a.low == b.low && a.high == b.high;
    const bool in_place =
        same_bytes || c_.node(b.node).is_collective || c_.node(b.node).op == "join";
    if (same_buffer && !a.write && in_place) return;
    report_->Add(rank_, c_.node(b.node).name,
                 absl::StrCat(What(a), " and ", What(b), " on the same bytes, ", Where(a, b)));
  }

  void CheckRead(int read, int write) {
    const Access& r = at(read);
    const NodeId producer = c_.graph().producer(r.value);
    if (write == kUntouched) {
      if (producer < 0) return;  // there since the start of the step
      report_->Add(rank_, c_.node(r.node).name,
                   absl::StrCat(What(r), " before ", c_.node(producer).name, " writes it"));
      return;
    }
    const Access& w = at(write);
    if (SameOperation(r, w) || !CheckPair(write, read)) return;
    if (w.value == r.value) return;
    report_->Add(rank_, c_.node(r.node).name,
                 absl::StrCat(What(r), ", but by then ", c_.node(w.node).name, " has overwritten ",
                              Where(r, w), " with ", c_.value(w.value).name));
  }

  const Context& c_;
  const HappensBefore& before_;
  const int rank_;
  Report* const report_;
  const std::vector<Access>* accesses_ = nullptr;
  Runs runs_[kTiers];
  int64_t pairs_ = 0;
};

}  // namespace

void CheckRaces(const Context& context, Report* report) {
  int64_t pairs = 0, total = 0, layouts = 0;
  int chains = 0;
  for (const RankView& view : context.ranks) {
    const std::vector<Access> all = Accesses(context, view, view.rank);
    Sweep whole(context, view, view.rank, report);
    whole.Go(all);
    pairs += whole.pairs();
    total += static_cast<int64_t>(all.size());
    chains = std::max(chains, view.before->chains());

    const std::vector<int> ranks = DistinctLayouts(context, *view.plan, all);
    layouts += static_cast<int64_t>(ranks.size());
    if (ranks.size() == 1) continue;
    std::vector<Access> some = AtSharedPlaces(context, *view.plan, all);
    for (size_t i = 1; i < ranks.size() && report->ok(); ++i) {
      for (Access& a : some) {
        if (!context.value(a.value).own_shard) continue;
        std::tie(a.low, a.high) = ArenaRange(context, *view.plan, a.value, ranks[i]);
      }
      Sweep part(context, view, ranks[i], report);
      part.Go(some);
      pairs += part.pairs();
    }
  }
  report->set_facts(absl::StrCat(Grouped(pairs), " neighbouring conflicts among ", Grouped(total),
                                 " accesses ordered over ", chains, " chains; ",
                                 context.plan->world_size, " ranks in ", layouts,
                                 layouts == 1 ? " layout" : " layouts"));
}

}  // namespace verify_internal
}  // namespace millrace
