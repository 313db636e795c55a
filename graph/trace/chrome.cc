#include "graph/trace/chrome.h"

#include <algorithm>
#include <map>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace millrace {
namespace {

bool IsUtf8(absl::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const unsigned char c = text[i];
    const int more = c < 0x80                ? 0
                     : c >= 0xc2 && c < 0xe0 ? 1
                     : c >= 0xe0 && c < 0xf0 ? 2
                     : c >= 0xf0 && c < 0xf5 ? 3
                                             : -1;
    if (more < 0 || i + more >= text.size() + (more == 0 ? 1 : 0)) return false;
    for (int k = 1; k <= more; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
    }
    i += more + 1;
  }
  return true;
}

absl::string_view LaneKindName(LaneKind kind) { return kLaneKindNames[static_cast<size_t>(kind)]; }

absl::string_view Category(const Node& node, LaneKind lane) {
  if (node.async == AsyncRole::kStart) return "cpu_op";
  switch (lane) {
    case LaneKind::kCompute:
    case LaneKind::kComm:
      return "kernel";
    case LaneKind::kHostToDevice:
    case LaneKind::kDeviceToHost:
      return "gpu_memcpy";
    default:
      return "cpu_op";
  }
}

int64_t Origin(const Trace& trace) {
  int64_t origin = INT64_MAX;
  for (const Span& s : trace.spans) origin = std::min(origin, s.begin_ns);
  for (const StepMark& s : trace.steps) origin = std::min(origin, s.begin_ns);
  return origin == INT64_MAX ? 0 : origin;
}

// What the events do not say of a trace.
std::string Header(const Trace& trace) {
  std::string out = absl::StrCat(
      "{\"title\":", JsonString(trace.title), ",\"predicted\":", trace.predicted ? "true" : "false",
      ",\"plan\":", JsonString(trace.plan->name), ",\"plan_hash\":", JsonString(trace.plan->hash),
      ",\"machine\":", JsonString(trace.plan->machine), ",\"world_size\":", trace.plan->world_size,
      ",\"origin_ns\":", Origin(trace), ",\"dropped\":", trace.dropped,
      ",\"peak_flops_per_second\":", absl::StrFormat("%.17g", trace.peak_flops_per_second),
      ",\"rank_plans\":[");
  for (size_t p = 0; p < trace.plan->rank_plans.size(); ++p) {
    const RankPlan& rank_plan = trace.plan->rank_plans[p];
    absl::StrAppend(&out, p == 0 ? "" : ",", "{\"ranks\":[", absl::StrJoin(rank_plan.ranks, ","),
                    "],\"lanes\":[");
    for (size_t l = 0; l < rank_plan.lanes.size(); ++l) {
      absl::StrAppend(&out, l == 0 ? "" : ",", "{\"name\":", JsonString(rank_plan.lanes[l].name),
                      ",\"kind\":\"", LaneKindName(rank_plan.lanes[l].kind), "\"}");
    }
    absl::StrAppend(&out, "]}");
  }
  return absl::StrCat(out, "]}");
}

// The events of one trace, shifted so that its first step begins at 0.
class Writer {
 public:
  Writer(const Trace& trace, int which, int of, std::ostream& out, bool& first)
      : trace_(trace), plan_(*trace.plan), which_(which), of_(of), out_(out), first_(first) {
    origin_ = Origin(trace);
  }

  void Write() {
    std::map<std::pair<int, int>, std::vector<const Span*>> tracks;
    std::map<int, int> ranks;
    for (const Span& s : trace_.spans) {
      tracks[{s.rank, s.lane}].push_back(&s);
      ranks[s.rank] = 1;
    }
    for (const auto& [rank, unused] : ranks) Names(rank);
    for (auto& [track, spans] : tracks) Track(spans);
    if (!ranks.empty()) Steps(ranks.begin()->first);
  }

 private:
  int Pid(int rank) const { return which_ * plan_.world_size + rank; }

  template <typename... Parts>
  void Event(const Parts&... parts) {
    out_ << (first_ ? "\n" : ",\n") << absl::StrCat(parts...);
    first_ = false;
  }
  void Metadata(int pid, int tid, absl::string_view what, const std::string& args) {
    Event("{\"ph\":\"M\",\"pid\":", pid, ",\"tid\":", tid, ",\"name\":\"", what, "\",\"args\":{",
          args, "}}");
  }

  void Names(int rank) {
    const int pid = Pid(rank);
    std::string name = absl::StrCat("rank ", rank);
    if (trace_.predicted) absl::StrAppend(&name, " (predicted)");
    if (!trace_.title.empty()) absl::StrAppend(&name, ", ", trace_.title);
    Metadata(pid, 0, "process_name", absl::StrCat("\"name\":", JsonString(name)));
    Metadata(pid, 0, "process_sort_index", absl::StrCat("\"sort_index\":", rank * of_ + which_));
    const std::vector<Lane>& lanes = plan_.ForRank(rank).lanes;
    for (size_t l = 0; l < lanes.size(); ++l) {
      Metadata(pid, l, "thread_name", absl::StrCat("\"name\":", JsonString(lanes[l].name)));
      Metadata(pid, l, "thread_sort_index", absl::StrCat("\"sort_index\":", l));
    }
  }

  void Track(std::vector<const Span*>& spans) {
    std::stable_sort(spans.begin(), spans.end(),
                     [](const Span* a, const Span* b) { return a->begin_ns < b->begin_ns; });
    int64_t free = origin_;
    for (const Span* s : spans) {
      const int64_t begin = std::max(s->begin_ns, free);
      const int64_t end = std::max(s->end_ns, begin);
      free = end;
      Slice(*s, begin - origin_, end - begin);
    }
  }

  void Slice(const Span& s, int64_t begin, int64_t duration) {
    const Node& node = plan_.graph.nodes()[s.node];
    const LaneKind lane = plan_.ForRank(s.rank).lanes[s.lane].kind;
    absl::string_view name = node.name;
    if (node.async == AsyncRole::kDone) {
      const size_t suffix = name.rfind(".done");
      if (suffix != absl::string_view::npos) name = name.substr(0, suffix);
    }
    std::string args = absl::StrCat("\"id\":", s.node, ",\"op\":", JsonString(node.op));
    if (name != node.name) absl::StrAppend(&args, ",\"node\":", JsonString(node.name));
    if (node.async != AsyncRole::kNone) {
      absl::StrAppend(&args, ",\"async\":\"", node.async == AsyncRole::kStart ? "start" : "done",
                      "\",\"partner\":", node.partner);
    }
    const int64_t bytes = BytesOf(plan_.graph, node);
    if (bytes > 0) absl::StrAppend(&args, ",\"bytes\":", bytes);
    if (node.is_collective) {
      absl::StrAppend(&args, ",\"group\":", JsonString(node.collective.group));
      if (Name(node.collective.op) != node.op)
        absl::StrAppend(&args, ",\"collective\":\"", Name(node.collective.op), "\"");
    }
    if (node.flops > 0) absl::StrAppend(&args, ",\"flops\":", node.flops);
    const int64_t stage = IntAttr(node, "stage", -1);
    if (stage >= 0) {
      absl::StrAppend(&args, ",\"stage\":", stage);
      const std::string stage_name = StageName(node);
      if (!stage_name.empty()) absl::StrAppend(&args, ",\"stage_name\":", JsonString(stage_name));
    }
    // Counted from the slice's own begin, which may lie later than the span's.
    const int64_t written = begin + origin_;
    if (written > s.ready_ns) {
      absl::StrAppend(&args, ",\"ready_before_us\":", ChromeMicroseconds(written - s.ready_ns));
    }
    if (s.credit_ns > 0) {
      absl::StrAppend(&args, ",\"credit_before_us\":", ChromeMicroseconds(written - s.credit_ns));
    }
    const std::string where = absl::StrCat("\"pid\":", Pid(s.rank), ",\"tid\":", s.lane,
                                           ",\"ts\":", ChromeMicroseconds(begin));
    Event("{\"ph\":\"X\",", where, ",\"dur\":", ChromeMicroseconds(duration),
          ",\"name\":", JsonString(name), ",\"cat\":\"", Category(node, lane), "\",\"args\":{",
          args, ",\"stream\":", s.lane, "}}");
    // One arrow per operation and step; a start is seen before its completion or after, whichever track
    // comes first, so both count their own.
    if (node.async != AsyncRole::kNone) {
      const bool start = node.async == AsyncRole::kStart;
      const NodeId operation = start ? s.node : node.partner;
      const int round = arrows_[{s.rank, s.node}]++;
      Event("{\"ph\":\"", start ? "s" : "f\",\"bp\":\"e", "\",", where, ",\"id\":\"", Pid(s.rank),
            ".", operation, ".", round, "\",\"name\":\"issued\",\"cat\":\"async\"}");
    }
  }

  void Steps(int rank) {
    Metadata(Pid(rank), kStepsTrack, "thread_name", "\"name\":\"steps\"");
    for (const StepMark& step : trace_.steps) {
      Event("{\"ph\":\"X\",\"pid\":", Pid(rank), ",\"tid\":", kStepsTrack,
            ",\"ts\":", ChromeMicroseconds(step.begin_ns - origin_),
            ",\"dur\":", ChromeMicroseconds(step.end_ns - step.begin_ns),
            ",\"name\":\"ProfilerStep#", step.step,
            "\",\"cat\":\"user_annotation\",\"args\":{\"step\":", step.step, "}}");
    }
  }

  const Trace& trace_;
  const Plan& plan_;
  const int which_;
  const int of_;
  std::ostream& out_;
  bool& first_;
  int64_t origin_ = 0;
  std::map<std::pair<int, NodeId>, int> arrows_;
};

}  // namespace

std::string ChromeMicroseconds(int64_t ns) {
  return absl::StrFormat("%s%d.%03d", ns < 0 ? "-" : "", std::abs(ns) / 1000, std::abs(ns) % 1000);
}

std::string JsonString(absl::string_view text) {
  const bool utf8 = IsUtf8(text);
  std::string out = "\"";
  for (const char c : text) {
    const unsigned char byte = c;
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || (byte >= 0x80 && !utf8)) {
      absl::StrAppendFormat(&out, "\\u%04x", byte);
    } else {
      out += c;
    }
  }
  return out + "\"";
}

void WriteChromeTrace(const std::vector<const Trace*>& traces, std::ostream& out) {
  out << "{\"schemaVersion\":1,\"displayTimeUnit\":\"ms\",";
  if (traces.size() == 1) {
    out << "\"traceName\":" << JsonString(traces[0]->title)
        << ",\"baseTimeNanoseconds\":" << Origin(*traces[0]) << ",";
  }
  out << "\n\"millrace\":{\"version\":1,\"traces\":[";
  for (size_t i = 0; i < traces.size(); ++i) out << (i == 0 ? "\n" : ",\n") << Header(*traces[i]);
  out << "]},\n\"traceEvents\":[";
  bool first = true;
  for (size_t i = 0; i < traces.size(); ++i) {
    Writer(*traces[i], static_cast<int>(i), static_cast<int>(traces.size()), out, first).Write();
  }
  out << "\n]}\n";
}

std::string ChromeTraceJson(const std::vector<const Trace*>& traces) {
  std::ostringstream out;
  WriteChromeTrace(traces, out);
  return out.str();
}

}  // namespace millrace
