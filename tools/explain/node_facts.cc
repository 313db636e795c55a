#include "tools/explain/node_facts.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "graph/base/status.h"
#include "graph/ir/op_contract.h"
#include "graph/plan/clocks.h"
#include "graph/plan/link_cost.h"

namespace millrace {
namespace {

struct Interval {
  double begin = 0, end = 0;
};

class Collector {
 public:
  Collector(const Plan& plan, const Machine& machine, const SimResult& sim, NodeId node)
      : plan_(plan),
        rank_(plan.ForRank(0)),
        graph_(plan.graph),
        machine_(machine),
        sim_(sim),
        id_(node),
        node_(plan.graph.nodes()[node]),
        times_(plan.graph.nodes().size()) {
    for (const Span& s : sim.spans) {
      if (s.rank != 0) continue;
      times_[s.node] = {static_cast<double>(s.begin_ns) / 1e9, static_cast<double>(s.end_ns) / 1e9};
    }
  }

  absl::StatusOr<NodeFacts> Run() {
    f_.name = node_.name;
    f_.op = node_.op;
    if (const OpContract* c = OpContracts::Global().Find(node_.op); c != nullptr) f_.doc = c->doc;
    if (node_.partner >= 0) f_.partner = graph_.nodes()[node_.partner].name;
    f_.begin = times_[id_].begin;
    f_.end = times_[id_].end;
    Lane();
    Waits();
    Cost();
    const Node& reads = node_.async == AsyncRole::kDone ? graph_.nodes()[node_.partner] : node_;
    const Node& writes = node_.async == AsyncRole::kStart ? graph_.nodes()[node_.partner] : node_;
    for (ValueId v : reads.inputs) Touch(v, false);
    for (ValueId v : writes.outputs) Touch(v, true);
    ASSIGN_OR_RETURN(f_.slack, Slack());
    return std::move(f_);
  }

 private:
  void Lane() {
    if (static_cast<size_t>(id_) < rank_.reason.size()) f_.reason = rank_.reason[id_];
    for (const millrace::Lane& lane : rank_.lanes) {
      const auto it = std::find(lane.order.begin(), lane.order.end(), id_);
      if (it == lane.order.end()) continue;
      f_.lane = lane.name;
      f_.place = static_cast<int>(it - lane.order.begin());
      f_.lane_size = static_cast<int>(lane.order.size());
      if (it != lane.order.begin()) f_.previous = graph_.nodes()[*(it - 1)].name;
      if (it + 1 != lane.order.end()) f_.next = graph_.nodes()[*(it + 1)].name;
    }
  }

  void Waits() {
    for (const Edge& e : rank_.edges) {
      if (e.to != id_) continue;
      // The start half hands its operation over when it ends; others when they end.
      f_.waits.push_back({e.kind, graph_.nodes()[e.from].name, times_[e.from].end});
    }
    std::stable_sort(f_.waits.begin(), f_.waits.end(),
                     [](const auto& a, const auto& b) { return a.ended > b.ended; });
    if (!f_.waits.empty()) f_.waits[0].last = true;
  }

  void Cost() {
    f_.flops = node_.flops;
    f_.memory_bytes = node_.memory_bytes;
    f_.overhead_seconds =
        node_.async == AsyncRole::kDone ? 0 : machine_.device().seconds_per_node();
    if (node_.is_collective) {
      f_.collective = true;
      f_.flops = 0;
      f_.group_size = graph_.group_size(node_.collective.group);
      if (node_.async != AsyncRole::kStart) {
        const LinkCost links(machine_);
        f_.wire_bytes = static_cast<int64_t>(LinkCost::WireBytes(node_.collective, f_.group_size));
        f_.wire_seconds = links.WireSeconds(node_.collective, f_.group_size);
        f_.latency_seconds = links.Seconds(node_.collective, f_.group_size) - f_.wire_seconds;
      }
    } else if (node_.async != AsyncRole::kStart) {
      const DeviceSpec& d = machine_.device();
      f_.compute_seconds =
          static_cast<double>(f_.flops) / (d.flops_per_second() * d.flops_efficiency());
      f_.memory_seconds = static_cast<double>(f_.memory_bytes) / d.memory_bytes_per_second();
      f_.operators = node_.operators;
      f_.operator_seconds = static_cast<double>(node_.operators) * d.seconds_per_operator();
    }
    f_.model_seconds =
        f_.overhead_seconds + f_.latency_seconds + f_.wire_seconds +
        (f_.operators > 0 ? f_.operator_seconds + f_.compute_seconds + f_.memory_seconds
                          : std::max(f_.compute_seconds, f_.memory_seconds));
    f_.planned_seconds = rank_.seconds[id_];
    f_.contention_seconds = std::max(0.0, f_.end - f_.begin - f_.planned_seconds);
    if (f_.contention_seconds < 2e-9) f_.contention_seconds = 0;  // spans count in nanoseconds
    const std::pair<double, const char*> terms[] = {
        {f_.compute_seconds, "compute"},    {f_.memory_seconds, "memory"},
        {f_.operator_seconds, "operators"}, {f_.wire_seconds, "wire"},
        {f_.latency_seconds, "latency"},    {f_.overhead_seconds, "overhead"}};
    f_.bound =
        std::max_element(std::begin(terms), std::end(terms), [](const auto& a, const auto& b) {
          return a.first < b.first;
        })->second;
  }

  void Touch(ValueId v, bool writes) {
    const Value& value = graph_.values()[v];
    const Buffer& buffer = graph_.buffers()[value.buffer];
    (writes ? f_.bytes_written : f_.bytes_read) += value.bytes();
    NodeFacts::Touched t;
    t.writes = writes;
    t.value = value.name;
    t.buffer = buffer.name;
    t.kind = std::string(Name(buffer.kind));
    t.tier = std::string(Name(buffer.tier));
    t.offset = rank_.offset[value.buffer] + value.offset;  // an own shard: rank 0's part
    t.bytes = value.bytes();
    t.persistent = buffer.persistent;
    t.from = std::numeric_limits<double>::max();
    for (size_t n = 0; n < graph_.nodes().size(); ++n) {
      const Node& other = graph_.nodes()[n];
      if (!Uses(other, value.buffer)) continue;
      const NodeId begin = other.async == AsyncRole::kDone ? other.partner : static_cast<NodeId>(n);
      const NodeId end = other.async == AsyncRole::kStart ? other.partner : static_cast<NodeId>(n);
      if (times_[begin].begin < t.from) {
        t.from = times_[begin].begin;
        t.first = graph_.nodes()[begin].name;
      }
      if (times_[end].end >= t.to) {
        t.to = times_[end].end;
        t.last = graph_.nodes()[end].name;
      }
    }
    f_.touched.push_back(std::move(t));
  }

  bool Uses(const Node& node, BufferId buffer) const {
    const auto in = [&](ValueId v) { return graph_.values()[v].buffer == buffer; };
    return std::any_of(node.inputs.begin(), node.inputs.end(), in) ||
           std::any_of(node.outputs.begin(), node.outputs.end(), in);
  }

  // Latest begins, from the end of the step backwards.
  absl::StatusOr<double> Slack() const {
    ASSIGN_OR_RETURN(const std::vector<NodeId> order, Sorted(graph_, rank_.edges));
    std::vector<std::vector<NodeId>> next(times_.size());
    for (const Edge& e : rank_.edges) next[e.from].push_back(e.to);
    std::vector<double> latest(times_.size());
    for (auto it = order.rbegin(); it != order.rend(); ++it) {
      double end = sim_.step_seconds;
      for (NodeId to : next[*it]) end = std::min(end, latest[to]);
      latest[*it] = end - (times_[*it].end - times_[*it].begin);
    }
    return std::max(0.0, latest[id_] - times_[id_].begin);
  }

  const Plan& plan_;
  const RankPlan& rank_;
  const Graph& graph_;
  const Machine& machine_;
  const SimResult& sim_;
  const NodeId id_;
  const Node& node_;
  std::vector<Interval> times_;
  NodeFacts f_;
};

std::string Seconds(double s) {
  if (s >= 1) return absl::StrFormat("%.4f s", s);
  if (s >= 1e-3) return absl::StrFormat("%.4f ms", s * 1e3);
  return absl::StrFormat("%.2f us", s * 1e6);
}

// What an edge of this kind means to the node at its end.
const char* Meaning(EdgeKind kind) {
  switch (kind) {
    case EdgeKind::kData:
      return "reads what it writes";
    case EdgeKind::kControl:
      return "asked for by the step";
    case EdgeKind::kHazard:
      return "its bytes are used again";
    case EdgeKind::kLane:
      return "stands before it in the lane";
    case EdgeKind::kAsync:
      return "starts the operation";
    case EdgeKind::kCredit:
      return "gives a credit back";
  }
  return "";
}

}  // namespace

absl::StatusOr<NodeFacts> FactsOf(const Plan& plan, const Machine& machine, const SimResult& sim,
                                  NodeId node) {
  if (node < 0 || static_cast<size_t>(node) >= plan.graph.nodes().size()) {
    return absl::InvalidArgumentError("no such node");
  }
  return Collector(plan, machine, sim, node).Run();
}

std::string ToText(const NodeFacts& f) {
  std::string text = absl::StrCat(f.name, ": ", f.op, f.doc.empty() ? "" : ": ", f.doc, "\n");
  if (!f.partner.empty()) absl::StrAppend(&text, "  other half  ", f.partner, "\n");
  absl::StrAppend(&text, "  where       lane ", f.lane, ", place ", f.place + 1, " of ",
                  f.lane_size, ", ",
                  f.previous.empty() ? "first" : absl::StrCat("after ", f.previous),
                  f.next.empty() ? ", last" : absl::StrCat(", before ", f.next), "\n");
  absl::StrAppend(&text, "  why here    ", f.reason, "\n");
  absl::StrAppend(&text, "  when        ", Seconds(f.begin), " to ", Seconds(f.end), " (",
                  Seconds(f.end - f.begin), "), ",
                  f.slack < 1e-9 ? "no slack: any delay delays the step"
                                 : absl::StrCat("slack ", Seconds(f.slack)),
                  "\n");
  absl::StrAppend(&text, "  waits for   ", f.waits.empty() ? "nothing\n" : "\n");
  for (const NodeFacts::Wait& w : f.waits) {
    absl::StrAppend(
        &text, absl::StrFormat("    %-8s%s, ended %s: %s%s\n", Name(w.kind), w.node,
                               Seconds(w.ended), Meaning(w.kind), w.last ? "  <- the last" : ""));
  }
  if (f.collective) {
    absl::StrAppend(&text, "  cost        ", f.group_size, " ranks: latency ",
                    Seconds(f.latency_seconds), " + wire ", Seconds(f.wire_seconds), " (",
                    f.wire_bytes, " bytes sent per rank)");
  } else {
    const std::string compute =
        absl::StrCat("compute ", Seconds(f.compute_seconds), " (", f.flops, " FLOP)");
    const std::string memory =
        absl::StrCat("memory ", Seconds(f.memory_seconds), " (", f.memory_bytes, " bytes)");
    absl::StrAppend(&text, "  cost        ");
    if (f.operators > 0) {
      absl::StrAppend(&text, f.operators, " operators ", Seconds(f.operator_seconds), " + ",
                      compute, " + ", memory);
    } else {
      absl::StrAppend(&text, "max(", compute, ", ", memory, ")");
    }
  }
  absl::StrAppend(&text, " + overhead ", Seconds(f.overhead_seconds), "; bound by ", f.bound, "\n");
  if (std::abs(f.planned_seconds - f.model_seconds) > 1e-12) {
    absl::StrAppend(&text, "              measured: ", Seconds(f.planned_seconds),
                    ", where the model says ", Seconds(f.model_seconds), "\n");
  }
  if (f.contention_seconds > 0) {
    absl::StrAppend(&text, "              and ", Seconds(f.contention_seconds),
                    " more by what other lanes do beside it\n");
  }
  absl::StrAppend(&text, "  values      ", f.bytes_read, " bytes read, ", f.bytes_written,
                  " bytes written\n");
  for (const NodeFacts::Touched& t : f.touched) {
    absl::StrAppend(&text,
                    absl::StrFormat("    %-7s%s: %s, %s [%d, %d), ", t.writes ? "writes" : "reads",
                                    t.value, t.kind, t.tier, t.offset, t.offset + t.bytes));
    if (t.persistent) {
      absl::StrAppend(&text, "stays from step to step\n");
    } else {
      absl::StrAppend(&text, "in use from ", t.first, " (", Seconds(t.from), ") to ", t.last, " (",
                      Seconds(t.to), ")\n");
    }
  }
  return text;
}

}  // namespace millrace
