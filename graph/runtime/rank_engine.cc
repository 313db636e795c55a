#include "graph/runtime/rank_engine.h"

#include <exception>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

using tbb::flow::continue_msg;

constexpr uint64_t kTaken = ~uint64_t{0};  // in Operation::pending

}  // namespace

void RankEngine::BuildGraph() {
  graph_ = std::make_unique<tbb::flow::graph>();
  const int32_t count = static_cast<int32_t>(program_.nodes.size());
  for (int32_t i = 0; i < count; ++i) {
    const ProgramNode& p = program_.nodes[i];
    const NodeRef n{kernels_.by_node[p.id].get(), p.id, i};
    const auto add = [&](auto body, int extra_predecessors) {
      nodes_.push_back(std::make_unique<ContinueNode>(*graph_, extra_predecessors, body));
    };
    if (p.role == AsyncRole::kDone) {
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
    if (p.predecessors.empty()) roots_.push_back(nodes_.back().get());
  }
  for (int32_t i = 0; i < count; ++i) {
    for (int32_t to : program_.nodes[i].successors) tbb::flow::make_edge(*nodes_[i], *nodes_[to]);
  }
}

void RankEngine::RunStep() {
  try {
    last_ = Ticks();
    outstanding_ = 0;
    for (ContinueNode* root : roots_) root->try_put(continue_msg());
    graph_->wait_for_all();
    while (outstanding_ > 0) {
      mailbox_.parker.Wait(
          [this] { return mailbox_.completed.load(std::memory_order_acquire) != nullptr; });
      PutCompleted();
      graph_->wait_for_all();
    }
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

void RankEngine::Fail(NodeId id, const char* phase, const absl::Status& why) noexcept {
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
  struct Done {  // fits std::function's own storage: nothing is allocated
    Operation* operation;
    uint64_t epoch;
    void operator()(const absl::Status& status) const {
      operation->engine->Complete(*operation, epoch, status);
    }
  };
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

void RankEngine::GiveUp(uint64_t epoch) {
  for (Operation& o : operations_) {
    if (o.pending.load(std::memory_order_acquire) == epoch) {
      Complete(o, epoch, absl::AbortedError("given up"));
    }
  }
}

RankProgress RankEngine::Snapshot() const {
  RankProgress p;
  p.program = &program_;
  const uint64_t epoch = step_->epoch;
  for (size_t i = 0; i < program_.nodes.size(); ++i) {
    const uint32_t seen = phase_[i].load(std::memory_order_relaxed);
    NodePhase phase = NodePhase::kNotBegun;
    if (seen == EndedIn(epoch)) {
      phase = NodePhase::kEnded;
    } else if (seen == BegunIn(epoch)) {
      phase = NodePhase::kRunning;
    } else if (operations_[i].pending.load(std::memory_order_relaxed) == epoch) {
      phase = NodePhase::kInFlight;
    }
    p.phase.push_back(phase);
  }
  const int32_t last = last_ended();
  if (last >= 0 && p.phase[last] == NodePhase::kEnded) p.last_ended = last;
  return p;
}

}  // namespace millrace
