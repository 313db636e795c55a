#include "graph/trace/chrome.h"

#include <algorithm>
#include <map>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace millrace {
namespace {

constexpr int kStepsTrack = 1000;  // below the lanes

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

std::string Microseconds(int64_t ns) {
  return absl::StrFormat("%s%d.%03d", ns < 0 ? "-" : "", std::abs(ns) / 1000, std::abs(ns) % 1000);
}

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

// The events of one trace, shifted so that its first step begins at 0.
class Writer {
 public:
  Writer(const Trace& trace, int which, int of, std::ostream& out, bool& first)
      : trace_(trace), plan_(*trace.plan), which_(which), of_(of), out_(out), first_(first) {
    for (const Span& s : trace.spans) origin_ = std::min(origin_, s.begin_ns);
    for (const StepMark& s : trace.steps) origin_ = std::min(origin_, s.begin_ns);
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
    std::string args = absl::StrCat("\"op\":", JsonString(node.op));
    const int64_t bytes = BytesOf(plan_.graph, node);
    if (bytes > 0) absl::StrAppend(&args, ",\"bytes\":", bytes);
    if (node.is_collective) {
      absl::StrAppend(&args, ",\"group\":", JsonString(node.collective.group));
    }
    const int64_t stage = IntAttr(node, "stage", -1);
    if (stage >= 0) absl::StrAppend(&args, ",\"stage\":", stage);
    if (s.begin_ns > s.ready_ns) {
      absl::StrAppend(&args, ",\"ready_before_us\":", Microseconds(s.begin_ns - s.ready_ns));
    }
    const std::string where =
        absl::StrCat("\"pid\":", Pid(s.rank), ",\"tid\":", s.lane, ",\"ts\":", Microseconds(begin));
    Event("{\"ph\":\"X\",", where, ",\"dur\":", Microseconds(duration),
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
            ",\"ts\":", Microseconds(step.begin_ns - origin_),
            ",\"dur\":", Microseconds(step.end_ns - step.begin_ns), ",\"name\":\"ProfilerStep#",
            step.step, "\",\"cat\":\"user_annotation\",\"args\":{\"step\":", step.step, "}}");
    }
  }

  const Trace& trace_;
  const Plan& plan_;
  const int which_;
  const int of_;
  std::ostream& out_;
  bool& first_;
  int64_t origin_ = INT64_MAX;
  std::map<std::pair<int, NodeId>, int> arrows_;
};

}  // namespace

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
  out << "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
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
