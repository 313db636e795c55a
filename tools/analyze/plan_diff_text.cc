// A difference as text for people and as JSON for scripts.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/analyze/plan_diff.h"

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;
using Group = PlanDiff::NodeGroup;

std::string Count(int64_t n) { return absl::StrCat(n); }
std::string Megabytes(int64_t bytes) {
  return absl::StrFormat("%.3f MB", static_cast<double>(bytes) * 1e-6);
}
std::string Milliseconds(double s) { return absl::StrFormat("%.4f ms", s * 1e3); }

template <typename T, typename Print>
void Lines(const std::vector<PlanDiff::Change<T>>& changes, const Print& print, std::string* out) {
  for (const PlanDiff::Change<T>& c : changes) {
    const auto side = [&](const std::optional<T>& v) { return v ? print(*v) : std::string("-"); };
    absl::StrAppendFormat(out, "  %-34s %16s -> %-16s", c.what, side(c.a), side(c.b));
    if (c.a && c.b && *c.a != 0) {
      const double times = static_cast<double>(*c.b) / static_cast<double>(*c.a);
      if (times < 10) absl::StrAppendFormat(out, " %+.1f%%", 100 * (times - 1));
      if (times >= 10) absl::StrAppendFormat(out, " x%.0f", times);
    }
    while (out->back() == ' ') out->pop_back();
    *out += '\n';
  }
}

template <typename T>
Json ChangesJson(const std::vector<PlanDiff::Change<T>>& changes) {
  Json list = Json::array();
  for (const PlanDiff::Change<T>& c : changes) {
    list.push_back({{"what", c.what},
                    {"a", c.a ? Json(*c.a) : Json(nullptr)},
                    {"b", c.b ? Json(*c.b) : Json(nullptr)}});
  }
  return list;
}

const char* KindName(Group::Kind kind) {
  switch (kind) {
    case Group::Kind::kOnlyInA:
      return "only_in_a";
    case Group::Kind::kOnlyInB:
      return "only_in_b";
    case Group::Kind::kOtherLane:
      return "other_lane";
    case Group::Kind::kOtherPlace:
      return "other_place";
  }
  return "";
}

std::string NodeLine(const Group& g) {
  const char mark = "-+>~"[static_cast<int>(g.kind)];
  std::string where = g.kind == Group::Kind::kOnlyInA   ? absl::StrCat("only in A, lane ", g.lane_a)
                      : g.kind == Group::Kind::kOnlyInB ? absl::StrCat("only in B, lane ", g.lane_b)
                      : g.kind == Group::Kind::kOtherLane
                          ? absl::StrCat("from lane ", g.lane_a, " to lane ", g.lane_b)
                          : absl::StrCat("at another place in lane ", g.lane_a);
  return absl::StrFormat("  %c %4d  %-44s %s\n", mark, g.count,
                         g.count == 1 ? g.example : g.pattern, where);
}

}  // namespace

std::string ToText(const PlanDiff& d) {
  std::string out = absl::StrCat("A  ", d.name_a, "\nB  ", d.name_b, "\n");
  if (d.same())
    return out + (d.nodes_compared ? "same plan\n" : "same as far as the summaries tell\n");
  const auto section = [&](bool any, const char* title) {
    if (any) absl::StrAppend(&out, "\n", title, "\n");
  };
  section(!d.config.empty(), "settings");
  for (const auto& c : d.config)
    absl::StrAppendFormat(&out, "  %-34s %s -> %s\n", c.what, c.a.value_or("-"), c.b.value_or("-"));
  section(!d.counts.empty(), "size");
  Lines(d.counts, Count, &out);
  section(!d.peak_bytes.empty(), "peak memory of a rank");
  Lines(d.peak_bytes, Megabytes, &out);
  section(!d.at_peak.empty(), "what lies there at the peak");
  Lines(d.at_peak, Megabytes, &out);
  section(!d.collective_count.empty() || !d.collective_bytes.empty(),
          "communication of a rank and step: calls, bytes sent");
  Lines(d.collective_count, Count, &out);
  Lines(d.collective_bytes, Megabytes, &out);
  section(!d.seconds.empty(), "simulated");
  for (const auto& c : d.seconds) {
    const bool ratio = c.what == "step / lower bound";
    Lines<double>(
        {c}, [ratio](double v) { return ratio ? absl::StrFormat("%.3f", v) : Milliseconds(v); },
        &out);
  }
  section(!d.nodes.empty(), "nodes");
  for (const Group& g : d.nodes) out += NodeLine(g);
  section(!d.edges.empty(), "who waits for whom, among nodes of both");
  for (const PlanDiff::EdgeGroup& e : d.edges) {
    absl::StrAppendFormat(&out, "  %c %4d  %-8s %s -> %s\n", e.in_a ? '-' : '+', e.count, e.kind,
                          e.from, e.to);
  }
  if (!d.nodes_compared) out += "\nnodes were not compared: a summary knows only their number\n";
  return out;
}

Json ToJson(const PlanDiff& d) {
  Json json = {{"a", d.name_a},
               {"b", d.name_b},
               {"same", d.same()},
               {"settings", ChangesJson(d.config)},
               {"counts", ChangesJson(d.counts)},
               {"peak_bytes", ChangesJson(d.peak_bytes)},
               {"at_peak", ChangesJson(d.at_peak)},
               {"collective_count", ChangesJson(d.collective_count)},
               {"collective_bytes", ChangesJson(d.collective_bytes)},
               {"simulated", ChangesJson(d.seconds)},
               {"nodes_compared", d.nodes_compared}};
  Json& nodes = json["nodes"] = Json::array();
  for (const Group& g : d.nodes) {
    nodes.push_back({{"change", KindName(g.kind)},
                     {"pattern", g.pattern},
                     {"count", g.count},
                     {"example", g.example},
                     {"lane_a", g.lane_a},
                     {"lane_b", g.lane_b}});
  }
  Json& edges = json["edges"] = Json::array();
  for (const PlanDiff::EdgeGroup& e : d.edges) {
    edges.push_back({{"change", e.in_a ? "only_in_a" : "only_in_b"},
                     {"kind", e.kind},
                     {"from", e.from},
                     {"to", e.to},
                     {"count", e.count}});
  }
  return json;
}

}  // namespace millrace
