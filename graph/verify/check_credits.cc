// A counted resource (prefetched buckets, staging buffers) is never taken beyond its limit: at each
// take, in the worst case, every earlier holder whose giving back does not surely precede it still
// holds on.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "graph/verify/check.h"

namespace millrace {
namespace verify_internal {
namespace {

void CheckCredit(const Context& c, const RankView& view, const Credit& credit, Report* report) {
  const HappensBefore& before = *view.before;
  std::vector<Credit::Holder> holders = credit.holders;
  std::sort(holders.begin(), holders.end(), [&](const auto& a, const auto& b) {
    return before.place(a.take) < before.place(b.take);
  });
  // Those still held; the ones surely given back before a take that all later takes follow drop
  // out.
  std::vector<Credit::Holder> open;
  for (const Credit::Holder& h : holders) {
    if (h.take != h.give && !before.Precedes(h.take, h.give)) {
      report->Add(view.rank, c.node(h.take).name,
                  absl::StrCat("takes credit ", credit.name, " that ", c.node(h.give).name,
                               " gives back, but is not ordered before it"));
    }
    int64_t held = h.amount;
    std::string names;
    for (const Credit::Holder& o : open) {
      if (before.Precedes(o.give, h.take)) continue;
      held += o.amount;
      absl::StrAppend(&names, names.empty() ? "" : ", ", c.node(o.take).name);
    }
    if (held > credit.limit) {
      report->Add(
          view.rank, c.node(h.take).name,
          absl::StrCat("takes credit ", credit.name, " when ", held, " ", credit.unit,
                       " may be held against a limit of ", credit.limit,
                       names.empty() ? "" : " (also held by ", names, names.empty() ? "" : ")"));
    }
    // Takes of one chain follow each other, so what is given back before this one stays given back.
    open.erase(std::remove_if(open.begin(), open.end(),
                              [&](const auto& o) {
                                return before.chain(o.take) == before.chain(h.take) &&
                                       before.Precedes(o.give, h.take);
                              }),
               open.end());
    open.push_back(h);
  }
}

}  // namespace

void CheckCredits(const Context& context, Report* report) {
  std::string facts;
  for (const RankView& view : context.ranks) {
    for (const Credit& credit : view.plan->credits) {
      if (credit.limit < 0) {
        report->Add(view.rank, "", absl::StrCat("credit ", credit.name, " has a negative limit"));
      }
      CheckCredit(context, view, credit, report);
      if (&view != &context.ranks.front()) continue;
      absl::StrAppend(&facts, facts.empty() ? "" : "; ", credit.name, ": ", credit.holders.size(),
                      " holders never beyond ", credit.limit, " ", credit.unit);
    }
  }
  report->set_facts(facts.empty() ? "no counted resources" : facts);
}

}  // namespace verify_internal
}  // namespace millrace
