#include "graph/runtime/rank_engine.h"

#include <exception>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

using tbb::flow::continue_msg;

constexpr uint64_t kTaken = ~uint64_t{0};  // in Operation::pending

}  // namespace

absl::Status RankEngine::OpenDevice(Device* device, const DeviceIssuerOptions& options) {
  ASSIGN_OR_RETURN(issuer_, DeviceIssuer::Create(device, program_, kernels_, options));
  device_end_.engine = this;
  return absl::OkStatus();
}

void RankEngine::BuildGraph() {
  graph_ = std::make_unique<tbb::flow::graph>();
  const int32_t count = static_cast<int32_t>(program_.nodes.size());
  gate_nodes_.resize(count);
  for (int32_t i = 0; i < count; ++i) {
    const ProgramNode& p = program_.nodes[i];
    const NodeRef n{kernels_.by_node[p.id].get(), p.id, i};
    const bool on_device = issuer_ != nullptr && issuer_->program().on_device(i);
    const bool gated =
        issuer_ != nullptr && !on_device && !issuer_->program().nodes[i].waits.empty();
    const auto add = [&](auto body, int extra_predecessors) {
      nodes_.push_back(std::make_unique<ContinueNode>(*graph_, extra_predecessors + gated, body));
    };
    if (on_device && p.role == AsyncRole::kDone) {
      nodes_.push_back(nullptr);
    } else if (on_device) {
      add([this, n](const continue_msg&) noexcept { RunIssue(n); }, 0);
    } else if (p.role == AsyncRole::kDone) {
      Operation* const o = &operations_[i];
      add([this, n, o](const continue_msg&) noexcept { RunDone(n, *o); }, 1);
      o->engine = this;
      o->node = nodes_.back().get();
      o->ref = {nullptr, p.id, i};
    } else if (p.role == AsyncRole::kStart) {
      Operation* const o = &operations_[p.partner];
      add([this, n, o](const continue_msg&) noexcept { RunStart(n, *o); }, 0);
    } else if (n.kernel->asynchronous()) {
      Operation* const o = &operations_[i];
      add([this, o](const continue_msg&) noexcept { RunBlocking(*o); }, 0);
      o->engine = this;
      o->ref = n;
    } else {
      add([this, n](const continue_msg&) noexcept { RunCompute(n); }, 0);
    }
    if (!gated) continue;
    gate_nodes_[i] = std::make_unique<ContinueNode>(
        *graph_, 0, [this, i](const continue_msg&) noexcept { RunGate(i); });
    gates_[i].engine = this;
    gates_[i].node = nodes_.back().get();
    gates_[i].ref = n;
  }
  const auto entry = [&](int32_t i) {
    return gate_nodes_[i] != nullptr ? gate_nodes_[i].get() : nodes_[i].get();
  };
  std::vector<std::pair<int32_t, int32_t>> edges;
  if (issuer_ != nullptr) {
    edges = issuer_->program().edges;
  } else {
    for (int32_t i = 0; i < count; ++i) {
      for (int32_t to : program_.nodes[i].successors) edges.push_back({i, to});
    }
  }
  std::vector<bool> follows(count, false);
  for (const auto& [from, to] : edges) {
    tbb::flow::make_edge(*nodes_[from], *entry(to));
    follows[to] = true;
  }
  for (int32_t i = 0; i < count; ++i) {
    if (!follows[i] && entry(i) != nullptr) roots_.push_back(entry(i));
  }
}

void RankEngine::RunStep() {
  try {
    last_ = Ticks();
    outstanding_ = 0;
    if (issuer_ != nullptr) {
      const absl::Status begun =
          given_up_.load() != 0
              ? absl::FailedPreconditionError("work of a step that was given up may still run")
              : issuer_->BeginStep(step_->context);
      if (!begun.ok()) Fail(-1, "begin of the step", begun);
    }
    for (ContinueNode* root : roots_) root->try_put(continue_msg());
    graph_->wait_for_all();
    while (outstanding_ > 0) {
      mailbox_.parker.Wait(
          [this] { return mailbox_.completed.load(std::memory_order_acquire) != nullptr; });
      PutCompleted();
      graph_->wait_for_all();
    }
    if (issuer_ != nullptr) FinishDevice();
    if (step_->failed.load()) graph_->reset();
  } catch (const std::exception& e) {  // TBB's own, for example no memory for a task
    step_->Fail(absl::InternalError(absl::StrCat("flow graph of rank ", rank(), ": ", e.what())));
    GiveUp(step_->epoch);
    mailbox_.completed.store(nullptr);
    graph_->reset();
  }
  // The last touch of the step's state but for the wake-up; the executor outlives this thread's jobs.
  if (step_->ranks_running.fetch_sub(1, std::memory_order_acq_rel) == 1) step_->supervisor.Wake();
}

// Until all that was issued has ended; of a failed step, until nothing of it runs any more.
void RankEngine::FinishDevice() noexcept {
  while (true) {
    const bool failed = step_->failed.load();
    if (failed) {
      std::lock_guard<std::mutex> lock(step_->mutex);
      issuer_->Abandon(step_->error);
    }
    const uint64_t epoch = step_->epoch;
    device_end_.pending.store(epoch, std::memory_order_release);
    issuer_->AwaitAll(Done{&device_end_, epoch});
    if (given_up_.load() == epoch) Complete(device_end_, epoch, absl::OkStatus());
    mailbox_.parker.Wait(
        [this] { return device_end_.pending.load(std::memory_order_acquire) == 0; });
    if (failed) return;
    if (!step_->failed.load()) break;  // else work of other streams may still run
  }
  const absl::Status spans = issuer_->AddSpans(ring_);
  if (!spans.ok()) Fail(-1, "times of the step", spans);
}

void RankEngine::Fail(NodeId id, const char* phase, const absl::Status& why) noexcept {
  if (id < 0) {
    step_->Fail(Annotate(why, "device of rank ", rank(), ", ", phase));
    return;
  }
  const Node& node = program_.plan->graph.nodes()[id];
  step_->Fail(Annotate(why, "node ", node.name, " (", node.op, ") on rank ", rank(), ", ", phase));
}

void RankEngine::RunCompute(const NodeRef& n) noexcept {
  if (Begin(n)) {
    try {
      const absl::Status status = n.kernel->Run(step_->context);
      if (!status.ok()) Fail(n.id, "run", status);
    } catch (const std::exception& e) {
      Fail(n.id, "run", absl::InternalError(absl::StrCat("exception: ", e.what())));
    } catch (...) {
      Fail(n.id, "run", absl::InternalError("exception of unknown type"));
    }
    Stamp(n);
  }
  End(n);
}

// Calls the kernel's Start; the completion is that of `o`.
void RankEngine::Launch(const NodeRef& launcher, Operation& o) noexcept {
  const uint64_t epoch = step_->epoch;
  o.issued = last_;
  o.pending.store(epoch, std::memory_order_release);
  try {
    launcher.kernel->Start(step_->context, Done{&o, epoch});
    // The lane's next operation was last written by the thread that completed it: fetch it while waiting.
    __builtin_prefetch(&o + 1, /*for writing=*/1);
  } catch (const std::exception& e) {
    Fail(launcher.id, "start", absl::InternalError(absl::StrCat("exception: ", e.what())));
    Complete(o, epoch, absl::OkStatus());
  } catch (...) {
    Fail(launcher.id, "start", absl::InternalError("exception of unknown type"));
    Complete(o, epoch, absl::OkStatus());
  }
}

void RankEngine::RunStart(const NodeRef& n, Operation& o) noexcept {
  if (Begin(n)) {
    ++outstanding_;
    Launch(n, o);
    Stamp(n);
  } else {
    o.node->try_put(continue_msg());  // nobody else will
  }
  End(n);
}

void RankEngine::Complete(Operation& o, uint64_t epoch, const absl::Status& status) noexcept {
  uint64_t expected = epoch;
  if (!o.pending.compare_exchange_strong(expected, kTaken, std::memory_order_acq_rel)) return;
  o.completed = Ticks();
  if (!status.ok()) Fail(o.ref.id, "completion", status);
  mailbox_.posting.fetch_add(1, std::memory_order_relaxed);
  o.pending.store(0,
                  std::memory_order_release);  // from here on the step may end, if `o` is not split
  if (o.node != nullptr) {
    Operation* latest = mailbox_.completed.load(std::memory_order_relaxed);
    do {
      o.next = latest;
    } while (!mailbox_.completed.compare_exchange_weak(latest, &o, std::memory_order_release,
                                                       std::memory_order_relaxed));
  }
  mailbox_.parker.Wake();
  mailbox_.posting.fetch_sub(1, std::memory_order_release);
}

void RankEngine::PutCompleted() noexcept {
  Operation* latest = mailbox_.completed.exchange(nullptr, std::memory_order_acquire);
  Operation* first = nullptr;
  while (latest != nullptr) {  // in the order in which they completed
    Operation* const next = latest->next;
    latest->next = first;
    first = latest;
    latest = next;
  }
  for (Operation* o = first; o != nullptr;) {
    Operation* const next = o->next;
    --outstanding_;
    o->node->try_put(continue_msg());
    o = next;
  }
}

void RankEngine::RunDone(const NodeRef& n, Operation& o) noexcept {
  if (Begin(n)) {
    ring_->Add(n.id, o.issued, o.completed);
    last_ = Ticks();
  }
  End(n);
}

void RankEngine::RunBlocking(Operation& o) noexcept {
  if (Begin(o.ref)) {
    Launch(o.ref, o);
    mailbox_.parker.Wait([&] { return o.pending.load(std::memory_order_acquire) == 0; });
    Stamp(o.ref);
  }
  End(o.ref);
}

// On the issue thread, as all bodies.
void RankEngine::RunIssue(const NodeRef& n) noexcept {
  if (Begin(n)) {
    try {
      const absl::Status status = issuer_->Issue(n.index);
      if (!status.ok()) Fail(n.id, "issue", status);
    } catch (const std::exception& e) {
      Fail(n.id, "issue", absl::InternalError(absl::StrCat("exception: ", e.what())));
    } catch (...) {
      Fail(n.id, "issue", absl::InternalError("exception of unknown type"));
    }
    last_ = Ticks();
  }
  End(n);
}

void RankEngine::RunGate(int32_t i) noexcept {
  Operation& gate = gates_[i];
  if (step_->failed.load(std::memory_order_relaxed)) {
    gate.node->try_put(continue_msg());
    return;
  }
  ++outstanding_;
  const uint64_t epoch = step_->epoch;
  gate.pending.store(epoch, std::memory_order_release);
  issuer_->AwaitGate(i, Done{&gate, epoch});
}

// A stream is at work on the first of its nodes that has not ended, unless that waits for another stream.
NodePhase RankEngine::DevicePhase(int32_t i) const {
  if (!issuer_->issued(i)) return NodePhase::kNotBegun;
  if (issuer_->ended(i)) return NodePhase::kEnded;
  const StreamProgram& streams = issuer_->program();
  const StreamNode& node = streams.nodes[i];
  const std::vector<int32_t>& ops = streams.ops[node.stream];
  if (node.seq > 0 && !issuer_->ended(ops[node.seq - 1])) return NodePhase::kQueued;
  for (const StreamPoint& p : streams.nodes[ops[node.seq]].waits) {
    if (!issuer_->ended(streams.ops[p.stream][p.seq])) return NodePhase::kQueued;
  }
  return NodePhase::kInFlight;
}

void RankEngine::GiveUp(uint64_t epoch) {
  const auto give_up = [&](Operation& o) {
    if (o.pending.load(std::memory_order_acquire) == epoch) {
      Complete(o, epoch, absl::AbortedError("given up"));
    }
  };
  for (Operation& o : operations_) give_up(o);
  if (issuer_ == nullptr) return;
  for (Operation& o : gates_) give_up(o);
  given_up_.store(epoch);
  give_up(device_end_);
}

RankProgress RankEngine::Snapshot() const {
  RankProgress p;
  p.program = &program_;
  const uint64_t epoch = step_->epoch;
  for (size_t i = 0; i < program_.nodes.size(); ++i) {
    const uint32_t seen = phase_[i].load(std::memory_order_relaxed);
    NodePhase phase = NodePhase::kNotBegun;
    if (issuer_ != nullptr && issuer_->program().on_device(static_cast<int32_t>(i))) {
      phase = DevicePhase(static_cast<int32_t>(i));
    } else if (seen == EndedIn(epoch)) {
      phase = NodePhase::kEnded;
    } else if (seen == BegunIn(epoch)) {
      phase = NodePhase::kRunning;
    } else if (operations_[i].pending.load(std::memory_order_relaxed) == epoch) {
      phase = NodePhase::kInFlight;
    }
    p.phase.push_back(phase);
  }
  if (issuer_ != nullptr) {
    for (int32_t i : issuer_->program().issue_order) {
      const int32_t partner = program_.nodes[i].partner;
      const int32_t whole = partner >= 0 ? partner : i;
      if (p.phase[whole] == NodePhase::kInFlight) p.on_device.push_back(whole);
      if (p.phase[whole] == NodePhase::kEnded) p.last_ended = whole;
    }
    return p;
  }
  const int32_t last = last_ended_.load(std::memory_order_relaxed);
  if (last >= 0 && p.phase[last] == NodePhase::kEnded) p.last_ended = last;
  return p;
}

}  // namespace millrace
