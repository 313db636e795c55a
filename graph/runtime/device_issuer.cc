#include "graph/runtime/device_issuer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/trace/ticks.h"

namespace millrace {
namespace {

// Kernels may throw.
class NamedRange {
 public:
  NamedRange(Device* device, const std::string& name) : device_(device) {
    device_->PushRange(name);
  }
  ~NamedRange() { device_->PopRange(); }

 private:
  Device* const device_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceIssuer>> DeviceIssuer::Create(
    Device* device, const Program& program, const RankKernels& kernels,
    const DeviceIssuerOptions& options) {
  std::unique_ptr<DeviceIssuer> issuer(new DeviceIssuer(device, program, kernels, options));
  RETURN_IF_ERROR(Annotate(issuer->Prepare(), "preparing ", device->Describe()));
  return issuer;
}

absl::Status DeviceIssuer::Prepare() {
  ASSIGN_OR_RETURN(streams_, MakeStreamProgram(program_));
  const size_t streams = streams_.streams.size();
  issued_.reset(new std::atomic<int32_t>[streams] {});
  begin_.assign(program_.nodes.size(), -1);
  for (size_t s = 0; s < streams; ++s) {
    ASSIGN_OR_RETURN(const StreamId id, device_->NewStream(streams_.streams[s]));
    ids_.push_back(id);
    end_.emplace_back();
    for (size_t k = 0; k < streams_.ops[s].size(); ++k) {
      ASSIGN_OR_RETURN(const EventId end, device_->NewEvent());
      end_.back().push_back(end);
      if (!options_.timed) continue;
      ASSIGN_OR_RETURN(begin_[streams_.ops[s][k]], device_->NewEvent());
    }
    ASSIGN_OR_RETURN(const EventId drained, device_->NewEvent());
    drained_.push_back(drained);
  }
  watched_ = end_;
  run_at_.assign(streams_.issue_order.size(), -1);
  if (options_.capture) {
    std::vector<bool> capturable(program_.nodes.size(), false), alone(program_.nodes.size(), false);
    for (int32_t i : streams_.issue_order) {
      const Kernel& kernel = *kernels_.by_node[program_.nodes[i].id];
      capturable[i] = kernel.capturable();
      alone[i] = capturable[i] && kernel.capture_alone();
    }
    for (const auto& [begin, end] : CapturableRuns(streams_, capturable, alone)) {
      for (int32_t k = begin; k < end; ++k) run_at_[k] = static_cast<int32_t>(runs_.size());
      runs_.push_back({begin, end, -1});
    }
  }
  watch_ = std::make_unique<StreamWatch>(device_, watched_);
  return absl::OkStatus();
}

absl::Status DeviceIssuer::BeginStep(const StepContext& context) {
  context_ = context;
  place_ = 0;
  abandoned_ = false;
  for (size_t s = 0; s < ids_.size(); ++s) issued_[s].store(0, std::memory_order_relaxed);
  watch_->BeginStep();
  if (++steps_ == 2) {  // from now on the end of a run's last op is that of all
    for (const Run& run : runs_) {
      const StreamNode& last = streams_.nodes[streams_.issue_order[run.end - 1]];
      for (int32_t k = run.begin; k < run.end; ++k) {
        const StreamNode& node = streams_.nodes[streams_.issue_order[k]];
        watched_[node.stream][node.seq] = end_[last.stream][last.seq];
      }
    }
  }
  for (int32_t i : streams_.issue_order) {
    RETURN_IF_ERROR(kernels_.by_node[program_.nodes[i].id]->BeginStep(context));
  }
  return device_->BeginIssue();
}

absl::Status DeviceIssuer::WaitFor(const StreamNode& node) {
  for (const StreamPoint& p : node.waits) {
    RETURN_IF_ERROR(device_->Wait(ids_[node.stream], watched_[p.stream][p.seq]));
  }
  return absl::OkStatus();
}

absl::Status DeviceIssuer::Put(int32_t i) {
  const StreamNode& node = streams_.nodes[i];
  const StreamId stream = ids_[node.stream];
  if (options_.timed) RETURN_IF_ERROR(device_->Record(stream, begin_[i]));
  {
    const NodeId id = program_.nodes[i].id;
    const NamedRange range(device_, program_.plan->graph.nodes()[id].name);
    RETURN_IF_ERROR(kernels_.by_node[id]->Issue(context_, DeviceStream{device_, stream}));
  }
  return device_->Record(stream, end_[node.stream][node.seq]);
}

absl::Status DeviceIssuer::Issue(int32_t i) {
  const int64_t begin = Ticks();
  const int32_t place = place_++;
  const StreamNode& node = streams_.nodes[i];
  if (streams_.issue_order[place] != i) {
    return absl::InternalError(absl::StrCat("issued out of order: ", i, " at place ", place));
  }
  const int32_t r = steps_ > 1 ? run_at_[place] : -1;
  int32_t ops = node.seq + 1;
  if (r < 0) {
    RETURN_IF_ERROR(WaitFor(node));
    RETURN_IF_ERROR(Put(i));
  } else if (Run& run = runs_[r]; place == run.begin) {
    const StreamId stream = ids_[node.stream];
    RETURN_IF_ERROR(WaitFor(node));
    if (run.graph < 0) {
      RETURN_IF_ERROR(device_->BeginCapture(stream));
      absl::Status put;
      try {
        for (int32_t k = run.begin; k < run.end && put.ok(); ++k)
          put = Put(streams_.issue_order[k]);
      } catch (...) {
        (void)device_->EndCapture(stream);
        throw;
      }
      absl::StatusOr<GraphId> graph = device_->EndCapture(stream);
      RETURN_IF_ERROR(put);
      RETURN_IF_ERROR(graph);
      run.graph = *graph;
    }
    RETURN_IF_ERROR(device_->Launch(stream, run.graph));
    const StreamNode& last = streams_.nodes[streams_.issue_order[run.end - 1]];
    // Outside the captured graph: an event in it would still show the last launch.
    RETURN_IF_ERROR(device_->Record(stream, end_[last.stream][last.seq]));
    ops = last.seq + 1;
  } else {
    ops = 0;  // went with its run
  }
  if (ops > 0) {
    issued_[node.stream].store(ops, std::memory_order_relaxed);
    watch_->Issued(node.stream, ops);
  }
  ++issued_nodes_;
  issue_ticks_ += Ticks() - begin;
  return absl::OkStatus();
}

void DeviceIssuer::Abandon(const absl::Status& why) {
  abandoned_ = true;
  device_->Abandon(why);
}

void DeviceIssuer::AwaitAll(Then then) {
  if (!abandoned_) {
    std::vector<StreamPoint> tails;
    for (size_t s = 0; s < ids_.size(); ++s) {
      const int32_t issued = issued_[s].load(std::memory_order_relaxed);
      if (issued > 0) tails.push_back({static_cast<int32_t>(s), issued - 1});
    }
    watch_->Await(tails, std::move(then));
    return;
  }
  std::vector<EventId> events;
  for (size_t s = 0; s < ids_.size(); ++s) {
    if (device_->Record(ids_[s], drained_[s]).ok()) events.push_back(drained_[s]);
  }
  watch_->AwaitEvents(std::move(events), std::move(then));
}

absl::Status DeviceIssuer::AddSpans(SpanRing* ring) const {
  if (!options_.timed) return absl::OkStatus();
  for (int32_t i : streams_.issue_order) {
    const StreamNode& node = streams_.nodes[i];
    ASSIGN_OR_RETURN(const int64_t begin, device_->TimeOf(begin_[i]));
    ASSIGN_OR_RETURN(const int64_t end, device_->TimeOf(end_[node.stream][node.seq]));
    const ProgramNode& p = program_.nodes[i];
    if (p.partner >= 0) {
      ring->Add(p.id, begin, begin);
      ring->Add(program_.nodes[p.partner].id, begin, end);
    } else {
      ring->Add(p.id, begin, end);
    }
  }
  return absl::OkStatus();
}

}  // namespace millrace
