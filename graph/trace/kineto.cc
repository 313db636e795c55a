#include "graph/trace/kineto.h"

#include <algorithm>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "graph/trace/chrome.h"

namespace millrace {
namespace {

constexpr int kCpuThread = 1;
constexpr int kComputeStream = 7, kCommStream = 20, kCopyStream = 40;
constexpr int64_t kLaunchNs = 1000;  // of a node that the compute thread runs itself

// As NCCL names its kernels; the spelling that every analysis of the tool accepts.
std::string CollectiveName(CollectiveOp op) {
  switch (op) {
    case CollectiveOp::kAllGather:
      return "ncclKernel_AllGather_RING_LL_Sum_int8_t";
    case CollectiveOp::kReduceScatter:
      return "ncclKernel_ReduceScatter_RING_LL_Sum_float";
    case CollectiveOp::kAllReduce:
      return "ncclKernel_AllReduce_RING_LL_Sum_float";
    case CollectiveOp::kBroadcast:
      return "ncclKernel_Broadcast_RING_LL_Sum_int8_t";
    case CollectiveOp::kAllToAll:
      return "ncclKernel_SendRecv_RING_LL_Sum_int8_t";
    case CollectiveOp::kBarrier:
      return "ncclKernel_Barrier_RING_LL_Sum_int8_t";
  }
  return "ncclKernel";
}

class KinetoWriter {
 public:
  KinetoWriter(const Trace& trace, int rank, std::ostream& out)
      : trace_(trace), rank_(rank), rank_plan_(trace.plan->ForRank(rank)), out_(out) {
    int comm = kCommStream, copy = kCopyStream;
    for (const Lane& lane : rank_plan_.lanes) {
      stream_.push_back(lane.kind == LaneKind::kCompute ? kComputeStream
                        : lane.kind == LaneKind::kComm  ? comm++
                                                        : copy++);
    }
  }

  void Write() {
    // The rank stands on a line of its own with a blank after the colon: that is how it is looked for.
    out_ << "{\n\"schemaVersion\": 1,\n\"distributedInfo\": {\"backend\": \"nccl\", \"rank\": "
         << rank_ << ", \"world_size\": " << trace_.plan->world_size
         << "},\n\"displayTimeUnit\": \"ms\",\n\"traceName\": " << JsonString(trace_.title)
         << ",\n\"traceEvents\": [";
    for (const StepMark& step : trace_.steps) {
      Slice(kCpuThread, step.begin_ns, step.end_ns, absl::StrCat("ProfilerStep#", step.step),
            "user_annotation", "");
    }
    // An operation is launched by its start half; both halves of a step carry one correlation.
    std::vector<const Span*> spans;
    for (const Span& s : trace_.spans) {
      if (s.rank == rank_) spans.push_back(&s);
    }
    std::stable_sort(spans.begin(), spans.end(),
                     [](const Span* a, const Span* b) { return a->begin_ns < b->begin_ns; });
    std::map<std::pair<NodeId, int>, int> correlation;
    std::map<NodeId, int> seen;
    int next = 1;
    for (const Span* s : spans) {
      const Node& node = trace_.plan->graph.nodes()[s->node];
      const NodeId operation = node.async == AsyncRole::kStart ? node.partner : s->node;
      const int round = seen[s->node]++;
      int& c = correlation[{operation, round}];
      if (c == 0) c = next++;
      NodeEvents(*s, node, c);
    }
    out_ << "\n]}\n";
  }

 private:
  void Slice(int tid, int64_t begin, int64_t end, absl::string_view name,
             absl::string_view category, const std::string& args) {
    out_ << (first_ ? "\n" : ",\n")
         << absl::StrCat(
                "{\"ph\": \"X\", \"cat\": \"", category, "\", \"name\": ", JsonString(name),
                ", \"pid\": ", tid == kCpuThread ? 1000 + rank_ : rank_, ", \"tid\": ", tid,
                ", \"ts\": ", ChromeMicroseconds(begin - Origin()),
                ", \"dur\": ", ChromeMicroseconds(end - begin), ", \"args\": {", args, "}}");
    first_ = false;
  }

  void NodeEvents(const Span& s, const Node& node, int correlation) {
    const std::string correlated = absl::StrCat("\"correlation\": ", correlation);
    const bool copy = rank_plan_.lanes[s.lane].kind != LaneKind::kCompute && !node.is_collective;
    if (node.async != AsyncRole::kDone) {
      const bool start = node.async == AsyncRole::kStart;
      const int64_t end = start ? s.end_ns : std::min(s.end_ns, s.begin_ns + kLaunchNs);
      if (!start) Slice(kCpuThread, s.begin_ns, s.end_ns, node.name, "cpu_op", "");
      Slice(kCpuThread, s.begin_ns, end,
            start && !node.is_collective ? "cudaMemcpyAsync" : "cudaLaunchKernel", "cuda_runtime",
            correlated);
      if (start) return;
    }
    std::string args = absl::StrCat(correlated, ", \"stream\": ", stream_[s.lane],
                                    ", \"device\": ", rank_, ", \"node\": ", JsonString(node.name));
    const int64_t bytes = BytesOf(trace_.plan->graph, node);
    if (bytes > 0) absl::StrAppend(&args, ", \"bytes\": ", bytes);
    if (node.is_collective) {
      absl::StrAppend(&args, ", \"Collective name\": ", JsonString(Name(node.collective.op)),
                      ", \"Group size\": ", trace_.plan->graph.group_size(node.collective.group),
                      ", \"Process Group Name\": ", JsonString(node.collective.group));
    }
    Slice(stream_[s.lane], s.begin_ns, s.end_ns, KernelName(s, node),
          copy ? "gpu_memcpy" : "kernel", args);
  }

  // Of compute nodes their own, without the words by which the tool sorts kernels into other classes.
  std::string KernelName(const Span& s, const Node& node) const {
    if (node.is_collective) return CollectiveName(node.collective.op);
    switch (rank_plan_.lanes[s.lane].kind) {
      case LaneKind::kHostToDevice:
        return "Memcpy HtoD (Pinned -> Device)";
      case LaneKind::kDeviceToHost:
        return "Memcpy DtoH (Device -> Pinned)";
      case LaneKind::kStorage:
        return "Memcpy HtoH (Storage)";
      default:
        return absl::StrReplaceAll(node.name, {{"Memset", "memset"}, {"Sync", "sync"}});
    }
  }

  int64_t Origin() {
    if (origin_ != INT64_MAX) return origin_;
    for (const Span& s : trace_.spans) origin_ = std::min(origin_, s.begin_ns);
    for (const StepMark& s : trace_.steps) origin_ = std::min(origin_, s.begin_ns);
    return origin_;
  }

  const Trace& trace_;
  const int rank_;
  const RankPlan& rank_plan_;
  std::ostream& out_;
  std::vector<int> stream_;  // by lane
  bool first_ = true;
  int64_t origin_ = INT64_MAX;
};

}  // namespace

void WriteKinetoTrace(const Trace& trace, int rank, std::ostream& out) {
  KinetoWriter(trace, rank, out).Write();
}

}  // namespace millrace
