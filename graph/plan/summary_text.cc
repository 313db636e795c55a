// The summary for a person: a head, a table of memory, what fills it, a table of communication.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "graph/plan/summary.h"

namespace millrace {
namespace {

constexpr size_t kMostAtPeak = 7;
constexpr size_t kMostCollectives = 5;

// Three digits and a unit: "1.50 GiB", "24.0 MiB", "512 B".
std::string Scaled(double x, double base, const std::vector<const char*>& units) {
  size_t u = 0;
  while (u + 1 < units.size() && x >= base * 0.9995) {
    x /= base;
    ++u;
  }
  if (u == 0) return absl::StrFormat("%.0f%s", x, units[0]);
  return absl::StrFormat("%.*f%s", x < 9.995 ? 2 : x < 99.95 ? 1 : 0, x, units[u]);
}

std::string Bytes(int64_t bytes) {
  return Scaled(static_cast<double>(bytes), 1024,
                {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"});
}

std::string Count(int64_t n) {
  return Scaled(static_cast<double>(n), 1000, {"", " k", " M", " G", " T", " P", " E"});
}

std::string Seconds(double s) {
  if (s < 1e-3) return absl::StrFormat("%.0f us", s * 1e6);
  if (s < 1) return absl::StrFormat("%.3g ms", s * 1e3);
  return absl::StrFormat("%.3g s", s);
}

void Head(const PlanSummary& s, std::string& out) {
  absl::StrAppend(&out, "plan ", s.name);
  if (!s.machine.empty()) absl::StrAppend(&out, " for ", s.machine);
  absl::StrAppend(&out, ": ", s.world_size, s.world_size == 1 ? " rank, " : " ranks, ", s.nodes,
                  " nodes, ", s.lanes, s.lanes == 1 ? " lane (" : " lanes (",
                  absl::StrJoin(s.lane_names, ", "), ")\n");
  absl::StrAppend(&out, "  hash        ", s.plan_hash, ", planned in ", Seconds(s.seconds_to_plan),
                  "\n");
  absl::StrAppend(&out, "  batch       ", s.batch.global, " = ", s.batch.micro, " a micro-batch, ",
                  s.batch.accumulation, " accumulated, ",
                  s.batch.micro * s.batch.accumulation > 0
                      ? s.batch.global / (s.batch.micro * s.batch.accumulation)
                      : 0,
                  " in parallel\n");
  absl::StrAppend(&out, "  parameters  ", Count(s.parameters), ", ", Count(s.flops_per_step),
                  "FLOP a step on all ranks, ", Seconds(s.planned_step_seconds),
                  " a step as planned\n");
}

void Memory(const PlanSummary& s, std::string& out) {
  absl::StrAppend(&out, absl::StrFormat("  %-10s %12s %12s %14s %12s\n", "memory", "peak", "bound",
                                        "peak/bound", "budget"));
  for (int t = 0; t < kTiers; ++t) {
    if (s.peak_bytes[t] == 0 && s.budget_bytes[t] == 0) continue;
    std::string ratio = "-", budget = "-";
    if (s.live_bytes_bound[t] > 0) {
      ratio = absl::StrFormat("%.4f", static_cast<double>(s.peak_bytes[t]) /
                                          static_cast<double>(s.live_bytes_bound[t]));
    }
    if (s.budget_bytes[t] > 0) {
      budget = Bytes(s.budget_bytes[t]);
      if (s.peak_bytes[t] > s.budget_bytes[t]) absl::StrAppend(&budget, "  EXCEEDED");
    }
    absl::StrAppend(
        &out, absl::StrFormat("  %-10s %12s %12s %14s %12s\n",
                              absl::StrCat("  ", Name(static_cast<Tier>(t))),
                              Bytes(s.peak_bytes[t]), Bytes(s.live_bytes_bound[t]), ratio, budget));
  }
  std::vector<std::string> kinds;
  for (int k = 0; k < kBufferKinds; ++k) {
    if (s.persistent_bytes[k] == 0) continue;
    kinds.push_back(
        absl::StrCat(Name(static_cast<BufferKind>(k)), " ", Bytes(s.persistent_bytes[k])));
  }
  absl::StrAppend(&out, "  persistent  ", kinds.empty() ? "nothing" : absl::StrJoin(kinds, ", "),
                  "\n");
}

void AtPeak(const PlanSummary& s, std::string& out) {
  if (s.at_peak.empty()) return;
  absl::StrAppend(&out, "  at the peak\n");
  const size_t shown = s.at_peak.size() > kMostAtPeak ? kMostAtPeak - 1 : s.at_peak.size();
  int64_t rest = 0;
  for (size_t i = 0; i < s.at_peak.size(); ++i) {
    const PeakEntry& entry = s.at_peak[i];
    if (i >= shown) {
      rest += entry.bytes;
      continue;
    }
    absl::StrAppend(&out, absl::StrFormat("  %12s  %-8s %s\n", Bytes(entry.bytes), Name(entry.tier),
                                          entry.what));
  }
  if (shown < s.at_peak.size()) {
    absl::StrAppend(&out,
                    absl::StrFormat("  %12s  in %d more\n", Bytes(rest), s.at_peak.size() - shown));
  }
}

void Communication(const PlanSummary& s, std::string& out) {
  if (s.collectives.empty()) {
    absl::StrAppend(&out, "  no communication\n");
    return;
  }
  absl::StrAppend(&out, absl::StrFormat("  %-16s %-12s %6s %14s %12s\n", "a rank sends", "group",
                                        "times", "elements", "bytes"));
  const size_t shown =
      s.collectives.size() > kMostCollectives ? kMostCollectives - 1 : s.collectives.size();
  for (size_t i = 0; i < shown; ++i) {
    const PlanSummary::Collective& c = s.collectives[i];
    absl::StrAppend(
        &out, absl::StrFormat("  %-16s %-12s %6d %14d %12s\n", absl::StrCat("  ", Name(c.op)),
                              absl::StrCat(c.group, " (", c.group_size, ")"), c.count_per_step,
                              c.elements_per_step, Bytes(c.bytes_per_step)));
  }
  if (shown < s.collectives.size()) {
    absl::StrAppend(&out, "    and ", s.collectives.size() - shown, " more kinds\n");
  }
  absl::StrAppend(&out, absl::StrFormat("  %-16s %-12s %6s %14d", "  together", "", "",
                                        s.comm_elements_per_rank));
  if (s.parameters > 0) {
    absl::StrAppend(&out, absl::StrFormat("  = %.3g x parameters",
                                          static_cast<double>(s.comm_elements_per_rank) /
                                              static_cast<double>(s.parameters)));
  }
  absl::StrAppend(&out, "\n");
}

}  // namespace

std::string ToText(const PlanSummary& summary) {
  std::string out;
  Head(summary, out);
  Memory(summary, out);
  AtPeak(summary, out);
  Communication(summary, out);
  return out;
}

}  // namespace millrace
