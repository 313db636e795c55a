#include "graph/runtime/stream_program.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

// Per stream: the last op that is known to have ended; -1 none.
using Clock = std::vector<int32_t>;

void Join(Clock* a, const Clock& b) {
  for (size_t s = 0; s < a->size(); ++s) (*a)[s] = std::max((*a)[s], b[s]);
}

class Compiler {
 public:
  explicit Compiler(const Program& program)
      : program_(program), graph_(program.plan->graph), count_(program.nodes.size()) {}

  absl::StatusOr<StreamProgram> Run() {
    AssignStreams();
    RETURN_IF_ERROR(AddEdges());
    ASSIGN_OR_RETURN(const std::vector<int32_t> order, Order());
    const size_t streams = out_.streams.size();
    ended_.assign(count_, Clock(streams, -1));
    host_knows_.assign(count_, Clock(streams, -1));
    begun_.assign(count_, Clock(streams, -1));
    stream_knows_.assign(streams, Clock(streams, -1));
    for (int32_t i : order) Visit(i);
    for (const StreamNode& node : out_.nodes) {
      for (const StreamPoint& p : node.waits) out_.nodes[out_.ops[p.stream][p.seq]].awaited = true;
    }
    return std::move(out_);
  }

 private:
  const Node& NodeOf(int32_t i) const { return graph_.nodes()[program_.nodes[i].id]; }
  bool IsDone(int32_t i) const { return program_.nodes[i].role == AsyncRole::kDone; }
  // What is issued so that `i` can end.
  int32_t Issued(int32_t i) const { return IsDone(i) ? program_.nodes[i].partner : i; }

  void AssignStreams() {
    out_.nodes.resize(count_);
    for (int32_t i = 0; i < program_.issue_count; ++i) {
      const NodeId id = program_.nodes[i].id;
      const LaneKind kind = LaneKindOf(graph_, id);
      if (!InStream(kind)) continue;
      const std::string name = kind == LaneKind::kComm
                                   ? absl::StrCat("comm:", NodeOf(i).collective.group)
                                   : std::string(Name(kind));
      size_t s = std::find(out_.streams.begin(), out_.streams.end(), name) - out_.streams.begin();
      if (s == out_.streams.size()) {
        out_.streams.push_back(name);
        out_.ops.emplace_back();
      }
      StreamNode& node = out_.nodes[i];
      node.stream = static_cast<int32_t>(s);
      node.seq = static_cast<int32_t>(out_.ops[s].size());
      out_.ops[s].push_back(i);
      out_.issue_order.push_back(i);
      const int32_t partner = program_.nodes[i].partner;
      if (partner < 0) continue;
      out_.nodes[partner].stream = node.stream;
      out_.nodes[partner].seq = node.seq;
    }
  }

  absl::Status AddEdges() {
    for (size_t k = 1; k < out_.issue_order.size(); ++k) {
      out_.edges.push_back({out_.issue_order[k - 1], out_.issue_order[k]});
    }
    for (int32_t i = 0; i < count_; ++i) {
      for (int32_t p : program_.nodes[i].predecessors) {
        if (out_.on_device(p) && out_.on_device(i)) continue;
        if (out_.on_device(i) && IsDone(i)) {
          return absl::InvalidArgumentError(absl::StrCat(
              "plan ", program_.plan->name, ": ", NodeOf(i).name,
              " ends in a stream of the device, but would have to wait for the host's ",
              NodeOf(p).name));
        }
        out_.edges.push_back({out_.on_device(p) ? Issued(p) : p, i});
      }
    }
    std::sort(out_.edges.begin(), out_.edges.end());
    out_.edges.erase(std::unique(out_.edges.begin(), out_.edges.end()), out_.edges.end());
    return absl::OkStatus();
  }

  // Of all nodes, so that the plan's edges, the order of issue and the flow graph's edges are all respected.
  absl::StatusOr<std::vector<int32_t>> Order() const {
    std::vector<std::vector<int32_t>> successors(count_);
    std::vector<int32_t> open(count_, 0);
    const auto add = [&](int32_t from, int32_t to) {
      successors[from].push_back(to);
      ++open[to];
    };
    for (int32_t i = 0; i < count_; ++i) {
      for (int32_t p : program_.nodes[i].predecessors) add(p, i);
    }
    for (const auto& [from, to] : out_.edges) add(from, to);
    std::vector<int32_t> order;
    for (int32_t i = 0; i < count_; ++i) {
      if (open[i] == 0) order.push_back(i);
    }
    for (size_t next = 0; next < order.size(); ++next) {
      for (int32_t s : successors[order[next]]) {
        if (--open[s] == 0) order.push_back(s);
      }
    }
    if (static_cast<int32_t>(order.size()) == count_) return order;
    std::string stuck;
    for (int32_t i = 0; i < count_; ++i) {
      if (open[i] > 0) absl::StrAppend(&stuck, "\n  ", NodeOf(i).name);
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "plan ", program_.plan->name,
        ": the order of its issue lane contradicts its edges; on a cycle or behind one:", stuck));
  }

  void Visit(int32_t i) {
    StreamNode& node = out_.nodes[i];
    Clock& after = begun_[i];
    Clock& known = host_knows_[i];
    for (int32_t p : program_.nodes[i].predecessors) {
      Join(&after, ended_[p]);
      Join(&known, host_knows_[p]);
      if (!out_.on_device(p)) Join(&known, begun_[p]);  // its gate has opened
    }
    ended_[i] = after;
    if (node.stream < 0) {
      node.waits = Needed(after, known);
      return;
    }
    if (IsDone(i)) {
      Join(&ended_[i], begun_[program_.nodes[i].partner]);
      ended_[i][node.stream] = std::max(ended_[i][node.stream], node.seq);
      return;
    }
    Clock& mine = stream_knows_[node.stream];
    mine[node.stream] = node.seq - 1;  // a stream keeps its order
    if (node.seq > 0) Join(&mine, begun_[out_.ops[node.stream][node.seq - 1]]);
    Join(&mine, known);
    node.waits = Needed(after, mine);
    Join(&mine, after);
    for (const StreamPoint& p : node.waits) Join(&mine, begun_[out_.ops[p.stream][p.seq]]);
    after = mine;  // what has certainly ended when it begins
    if (program_.nodes[i].role == AsyncRole::kNone) {
      Join(&ended_[i], mine);
      ended_[i][node.stream] = node.seq;
    }
  }

  // What has to be waited for so that all of `after` has ended, where `known` has.
  std::vector<StreamPoint> Needed(const Clock& after, const Clock& known) const {
    std::vector<StreamPoint> points;
    for (size_t s = 0; s < after.size(); ++s) {
      if (after[s] > known[s]) points.push_back({static_cast<int32_t>(s), after[s]});
    }
    std::vector<StreamPoint> kept;
    for (const StreamPoint& p : points) {
      const bool implied = std::any_of(points.begin(), points.end(), [&](const StreamPoint& q) {
        return !(q == p) && begun_[out_.ops[q.stream][q.seq]][p.stream] >= p.seq;
      });
      if (!implied) kept.push_back(p);
    }
    return kept;
  }

  const Program& program_;
  const Graph& graph_;
  const int32_t count_;
  StreamProgram out_;
  std::vector<Clock> begun_;       // what has ended when the node begins
  std::vector<Clock> ended_;       // ... when it ends, in the plan's sense
  std::vector<Clock> host_knows_;  // ... and the host has seen it when the node is issued
  std::vector<Clock> stream_knows_;
};

}  // namespace

absl::StatusOr<StreamProgram> MakeStreamProgram(const Program& program) {
  return Compiler(program).Run();
}

std::vector<std::pair<int32_t, int32_t>> CapturableRuns(const StreamProgram& program,
                                                        const std::vector<bool>& capturable,
                                                        const std::vector<bool>& alone) {
  std::vector<std::pair<int32_t, int32_t>> runs;
  const std::vector<int32_t>& order = program.issue_order;
  const auto end_run = [&](int32_t begin, int32_t end) {
    const bool kept_alone = end - begin == 1 && !alone.empty() && alone[order[begin]];
    if (end - begin > 1 || kept_alone) runs.push_back({begin, end});
  };
  // A host node between two in the issue order is an edge into the second.
  std::vector<bool> after_host(program.nodes.size(), false);
  for (const auto& [from, to] : program.edges) {
    if (!program.on_device(from)) after_host[to] = true;
  }
  int32_t begin = 0;
  const auto count = static_cast<int32_t>(order.size());
  for (int32_t k = 0; k <= count; ++k) {
    if (k == count) {
      end_run(begin, k);
      break;
    }
    const int32_t i = order[k];
    const bool follows = k > begin && capturable[i] && program.nodes[i].waits.empty() &&
                         !after_host[i] && capturable[order[k - 1]] &&
                         !program.nodes[order[k - 1]].awaited &&
                         program.nodes[order[k - 1]].stream == program.nodes[i].stream;
    if (follows) continue;
    end_run(begin, k);
    begin = k;
  }
  return runs;
}

}  // namespace millrace
