#include "graph/runtime/test_harness.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <stdexcept>

#include "absl/strings/str_cat.h"

namespace millrace {
namespace {

template <typename T>
T OrDie(absl::StatusOr<T> result) {
  if (result.ok()) return *std::move(result);
  fprintf(stderr, "%s\n", result.status().ToString().c_str());
  abort();
}

uint64_t Mix(uint64_t h, uint64_t v) { return (h ^ v) * 0x9e3779b97f4a7c15u + (h >> 29); }

}  // namespace

// ---- PlanSketch

ValueId PlanSketch::NewValue(const std::string& name, Tier tier) {
  Value value;
  value.name = name;
  value.dtype = DType::kI64;
  value.shape = {Harness::kNumbers};
  const ValueId v = builder_.AddValueWithBuffer(value, BufferKind::kActivation);
  builder_.buffer(builder_.value(v).buffer).tier = tier;
  return v;
}

std::vector<ValueId> PlanSketch::Outputs(const std::vector<NodeId>& nodes) const {
  std::vector<ValueId> values;
  for (NodeId n : nodes) values.push_back(output_.at(n));
  return values;
}

NodeId PlanSketch::Add(const std::string& name, const std::vector<NodeId>& after, Tier tier) {
  Node node;
  node.name = name;
  node.op = "fake";
  node.inputs = Outputs(after);
  node.outputs = {NewValue(name, tier)};
  const ValueId out = node.outputs[0];
  const NodeId id = builder_.AddNode(std::move(node));
  output_[id] = out;
  issue_.push_back(id);
  return id;
}

NodeId PlanSketch::Compute(const std::string& name, const std::vector<NodeId>& after) {
  return Add(name, after, Tier::kDevice);
}

NodeId PlanSketch::Host(const std::string& name, const std::vector<NodeId>& after) {
  return Add(name, after, Tier::kHost);
}

NodeId PlanSketch::Blocking(const std::string& name, const std::vector<NodeId>& after) {
  const NodeId id = Compute(name, after);
  Node& node = builder_.node(id);
  node.op = "all_reduce";
  node.is_collective = true;
  node.collective = {CollectiveOp::kAllReduce, "data", DType::kI64, Harness::kNumbers};
  return id;
}

// Makes a node the start half of a pair; returns the done half.
NodeId PlanSketch::Split(NodeId start) {
  Node done = builder_.node(start);
  const std::string name = done.name;
  builder_.node(start).outputs.clear();
  builder_.node(start).async = AsyncRole::kStart;
  builder_.node(start).name = name + ".start";
  done.name = name + ".done";
  done.inputs.clear();
  done.async = AsyncRole::kDone;
  done.partner = start;
  const ValueId out = done.outputs[0];
  const NodeId id = builder_.AddNode(std::move(done));
  builder_.node(start).partner = id;
  output_.erase(start);
  output_[id] = out;
  return id;
}

NodeId PlanSketch::Async(const std::string& name, const std::vector<NodeId>& after) {
  done_.push_back(Split(Blocking(name, after)));
  return done_.back();
}

NodeId PlanSketch::AsyncHost(const std::string& name, const std::vector<NodeId>& after) {
  host_done_.push_back(Split(Host(name, after)));
  return host_done_.back();
}

Plan PlanSketch::Build(int world, bool lane_edges) && {
  Plan plan;
  plan.name = "sketch";
  plan.world_size = world;
  builder_.SetGroup("data", world);
  plan.graph = OrDie(std::move(builder_).Build());
  RankPlan rank_plan;
  for (int r = 0; r < world; ++r) rank_plan.ranks.push_back(r);
  rank_plan.lanes.push_back({"compute", LaneKind::kCompute, issue_});
  rank_plan.lanes.push_back({"comm:data", LaneKind::kComm, done_});
  if (!host_done_.empty()) {
    rank_plan.lanes.push_back({"host_compute", LaneKind::kHostCompute, host_done_});
  }
  const Graph& graph = plan.graph;
  for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) {
    const Node& node = graph.nodes()[n];
    for (ValueId v : node.inputs) {
      rank_plan.edges.push_back({graph.producer(v), n, EdgeKind::kData});
    }
    if (node.async == AsyncRole::kDone) {
      rank_plan.edges.push_back({node.partner, n, EdgeKind::kAsync});
    }
  }
  for (const Lane& lane : rank_plan.lanes) {
    for (size_t i = 1; lane_edges && i < lane.order.size(); ++i) {
      rank_plan.edges.push_back({lane.order[i - 1], lane.order[i], EdgeKind::kLane});
    }
  }
  for (const Buffer& b : graph.buffers()) {
    int64_t& at = rank_plan.arena_bytes[static_cast<int>(b.tier)];
    rank_plan.offset.push_back(at);
    at += (b.bytes + 63) / 64 * 64;
  }
  plan.rank_plans.push_back(std::move(rank_plan));
  return plan;
}

Plan RandomPlan(uint64_t seed, int nodes, int world, bool lane_edges, bool host) {
  std::mt19937_64 random(seed);
  PlanSketch sketch;
  std::vector<NodeId> made;
  for (int i = 0; i < nodes; ++i) {
    std::vector<NodeId> after;
    for (uint64_t k = made.empty() ? 0 : random() % 4; k > 0; --k) {
      const NodeId n = made[made.size() - 1 - random() % std::min<size_t>(made.size(), 12)];
      if (std::find(after.begin(), after.end(), n) == after.end()) after.push_back(n);
    }
    if (host && random() % 5 == 0) {
      const std::string name = absl::StrCat("host/", i);
      made.push_back(random() % 2 == 0 ? sketch.Host(name, after) : sketch.AsyncHost(name, after));
      continue;
    }
    const uint64_t kind = random() % 12;
    // Without lane edges ranks would meet collectives in different orders, and those that are not split wait
    // for each other.
    if (kind < 3) {
      made.push_back(sketch.Async(absl::StrCat("async/", i), after));
    } else if (kind == 3 && lane_edges) {
      made.push_back(sketch.Blocking(absl::StrCat("blocking/", i), after));
    } else {
      made.push_back(sketch.Compute(absl::StrCat("compute/", i), after));
    }
  }
  return std::move(sketch).Build(world, lane_edges);
}

// ---- FakeGroup

FakeGroup::FakeGroup(int size, bool outside) : size_(size), outside_(outside) {
  if (outside_) thread_ = std::thread([this] { Serve(); });
}

FakeGroup::~FakeGroup() {
  if (!outside_) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void FakeGroup::Serve() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stop_ || !outbox_.empty(); });
    if (outbox_.empty()) return;
    std::pair<Done, absl::Status> next = std::move(outbox_.front());
    outbox_.pop_front();
    lock.unlock();
    next.first(next.second);
    next.first = nullptr;
    lock.lock();
  }
}

void FakeGroup::Deliver(std::vector<Member> members, const absl::Status& status) {
  if (!outside_) {
    for (Member& m : members) m.done(status);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (Member& m : members) outbox_.emplace_back(std::move(m.done), status);
  }
  wake_.notify_all();
}

void FakeGroup::Join(NodeId node, Member member) {
  std::vector<Member> members;
  absl::Status status;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    status = broken_;
    if (status.ok()) {
      waiting_[node].push_back(std::move(member));
      if (static_cast<int>(waiting_[node].size()) < size_) return;
      members = std::move(waiting_[node]);
      waiting_.erase(node);
      for (int i = 0; i < Harness::kNumbers; ++i) {
        int64_t sum = 0;
        for (const Member& m : members) sum += m.send == nullptr ? 0 : m.send[i];
        for (const Member& m : members) m.recv[i] = sum;
      }
    } else {
      members.push_back(std::move(member));
    }
  }
  Deliver(std::move(members), status);
}

void FakeGroup::Abort(const absl::Status& why) {
  std::vector<Member> members;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (broken_.ok()) broken_ = absl::AbortedError(absl::StrCat("aborted: ", why.message()));
    for (auto& [node, waiting] : waiting_) {
      for (Member& m : waiting) members.push_back(std::move(m));
    }
    waiting_.clear();
  }
  Deliver(std::move(members), broken_);
}

void FakeGroup::Rebuild() {
  std::lock_guard<std::mutex> lock(mutex_);
  broken_ = absl::OkStatus();
}

// ---- Harness

std::atomic<int> Harness::live_kernels_{0};

class FakeKernel : public Kernel {
 public:
  FakeKernel(Harness* harness, int rank, NodeId id)
      : harness_(harness), rank_(rank), id_(id), node_(harness->plan_.graph.nodes()[id]) {
    ++Harness::live_kernels_;
    const RankBuffers& buffers = harness_->buffers_[rank];
    for (ValueId v : node_.inputs) inputs_.push_back(buffers.as<int64_t>(v));
    end_ = node_.async == AsyncRole::kStart ? node_.partner : id;
    output_ = buffers.as<int64_t>(harness_->plan_.graph.nodes()[end_].outputs[0]);
  }
  ~FakeKernel() override { --Harness::live_kernels_; }

  bool asynchronous() const override { return node_.is_collective; }

  absl::Status Run(const StepContext& context) override {
    Begin();
    Compute(context, output_);
    const absl::Status status = Suffer();
    harness_->order_[rank_][id_].ended = ++harness_->sequence_;
    if (end_ != id_) harness_->order_[rank_][end_].ended = ++harness_->sequence_;
    return status;
  }

  void Start(const StepContext& context, std::function<void(absl::Status)> done) override {
    if (!node_.is_collective) return Kernel::Start(context, std::move(done));
    Begin();
    Compute(context, send_);
    const Fault fault = FaultHere();
    const auto joined = [this, done](absl::Status status) {
      harness_->order_[rank_][end_].ended = ++harness_->sequence_;
      done(std::move(status));
    };
    switch (fault) {
      case Fault::kStatus:
      case Fault::kDoneTwice:
        joined(absl::DataLossError("the fault"));
        if (fault == Fault::kDoneTwice) joined(absl::InternalError("again"));
        break;
      case Fault::kDoneThenThrow:
        joined(absl::OkStatus());
        throw std::runtime_error("the fault");
      case Fault::kLateDone: {
        std::lock_guard<std::mutex> lock(harness_->mutex_);
        harness_->late_.emplace_back([joined] {
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
          joined(absl::DataLossError("the fault"));
        });
        break;
      }
      case Fault::kNeverJoins:
        break;
      default: {
        const absl::Status status = Suffer();  // throws
        if (end_ != id_) harness_->order_[rank_][id_].ended = ++harness_->sequence_;
        harness_->group_.Join(id_, {send_, output_, joined});
      }
    }
    if (end_ != id_) harness_->order_[rank_][id_].ended = ++harness_->sequence_;
  }

 private:
  void Begin() {
    harness_->order_[rank_][id_].began = ++harness_->sequence_;
    harness_->thread_of[rank_][id_] = std::this_thread::get_id();
  }
  void Compute(const StepContext& context, int64_t* out) const {
    for (int i = 0; i < Harness::kNumbers; ++i) {
      uint64_t h = Mix(static_cast<uint64_t>(id_) * 131 + i, static_cast<uint64_t>(context.step));
      h = Mix(h, static_cast<uint64_t>(rank_) + 17);
      for (const int64_t* in : inputs_) h = Mix(h, static_cast<uint64_t>(in[i]));
      out[i] = static_cast<int64_t>(h >> 8);
    }
  }
  Fault FaultHere() const {
    const auto found = harness_->faults_.find({rank_, id_});
    return found == harness_->faults_.end() ? Fault::kNone : found->second;
  }
  absl::Status Suffer() const {
    switch (FaultHere()) {
      case Fault::kStatus:
        return absl::DataLossError("the fault");
      case Fault::kThrow:
        throw std::runtime_error("the fault");
      case Fault::kThrowUnknown:
        throw 7;
      case Fault::kHangs:
        while (!harness_->release_hang) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return absl::OkStatus();
      default:
        return absl::OkStatus();
    }
  }

  Harness* const harness_;
  const int rank_;
  const NodeId id_;
  const Node& node_;
  NodeId end_;  // the node that the completion ends
  std::vector<const int64_t*> inputs_;
  int64_t* output_;
  int64_t send_[Harness::kNumbers];
};

Harness::Harness(const Plan& plan, bool outside)
    : thread_of(plan.world_size, std::vector<std::thread::id>(plan.graph.nodes().size())),
      plan_(plan),
      group_(plan.world_size, outside) {
  for (int r = 0; r < plan.world_size; ++r) {
    buffers_.push_back(OrDie(RankBuffers::Create(plan, r)));
    order_.emplace_back(new Order[plan.graph.nodes().size()]);
  }
}

Harness::~Harness() { ClearFaults(); }

std::vector<RankKernels> Harness::Kernels() {
  std::vector<RankKernels> kernels;
  for (int r = 0; r < plan_.world_size; ++r) {
    kernels.push_back(
        OrDie(MakeKernels(plan_, r, buffers_[r],
                          [this](const Plan&, int rank, NodeId node,
                                 const RankBuffers&) -> absl::StatusOr<std::unique_ptr<Kernel>> {
                            return std::unique_ptr<Kernel>(new FakeKernel(this, rank, node));
                          })));
  }
  return kernels;
}

ExecutorOptions Harness::Options() {
  ExecutorOptions options;
  options.abort_communication = [this](const absl::Status& why) {
    ++aborts;
    group_.Abort(why);
  };
  return options;
}

void Harness::SetFault(int rank, NodeId node, Fault fault) { faults_[{rank, node}] = fault; }

void Harness::ClearFaults() {
  faults_.clear();
  for (std::thread& t : late_) t.join();
  late_.clear();
}

std::vector<std::vector<int64_t>> Harness::Numbers() const {
  std::vector<std::vector<int64_t>> numbers;
  for (const RankBuffers& buffers : buffers_) {
    numbers.emplace_back();
    for (ValueId v = 0; v < static_cast<ValueId>(plan_.graph.values().size()); ++v) {
      const int64_t* p = buffers.as<int64_t>(v);
      numbers.back().insert(numbers.back().end(), p, p + kNumbers);
    }
  }
  return numbers;
}

std::string Harness::BrokenEdge(bool on_device) const {
  const std::vector<Node>& nodes = plan_.graph.nodes();
  for (int r = 0; r < plan_.world_size; ++r) {
    for (const Edge& e : plan_.ForRank(r).edges) {
      if (nodes[e.to].async == AsyncRole::kDone)
        continue;  // has no kernel that could note its begin
      if (on_device && nodes[e.from].async == AsyncRole::kStart) continue;
      if (order_[r][e.from].ended < order_[r][e.to].began && order_[r][e.from].ended > 0) continue;
      return absl::StrCat("rank ", r, ": ", nodes[e.from].name, " ended at ",
                          order_[r][e.from].ended.load(), ", ", nodes[e.to].name, " began at ",
                          order_[r][e.to].began.load());
    }
  }
  return "";
}

}  // namespace millrace
