#include "graph/ir/hand_written.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/ir/op_contract.h"
#include "graph/ir/type_check.h"

namespace millrace {
namespace {

const std::vector<int64_t> kUnknownShape = {-1};

class Finisher {
 public:
  Finisher(DraftGraph draft, const GraphTextOptions& options, Findings& findings)
      : draft_(std::move(draft)), b_(draft_.builder), options_(options), findings_(findings) {}

  absl::StatusOr<Graph> Run() {
    UnusedValues();
    absl::StatusOr<Graph> structure = Structure().Build(findings_);
    if (!structure.ok()) {
      PortsOnly();
      return structure.status();
    }
    skips_.unknown_values.assign(draft_.values.size(), false);
    for (const DraftNode& n : draft_.nodes) skips_.broken_nodes.push_back(n.broken);
    Declared(*structure);
    for (NodeId id : structure->topological_order()) Infer(id);
    absl::StatusOr<Graph> graph = std::move(b_).Build(findings_);
    if (graph.ok() && options_.check_types) {
      findings_.Append(CheckTypes(*graph, skips_));
      if (options_.zero_stage >= 3) WholeParameters(*graph);
    }
    return graph;
  }

 private:
  void Add(const char* check, const std::string& node, const SourceLocation& at,
           std::string message, std::string suggestion = "") {
    Finding f;
    f.check = check;
    f.node = node;
    f.message = std::move(message);
    f.suggestion = std::move(suggestion);
    f.file = at.file;
    f.line = at.line;
    f.column = at.column;
    findings_.Add(std::move(f));
  }

  void UnusedValues() {
    for (size_t i = 0; i < draft_.values.size(); ++i) {
      if (!draft_.values[i].declared || draft_.values[i].used) continue;
      const Value& v = b_.value(static_cast<ValueId>(i));
      std::vector<std::string> others;
      for (size_t k = 0; k < draft_.values.size(); ++k) {
        if (!draft_.values[k].declared) others.push_back(b_.value(static_cast<ValueId>(k)).name);
      }
      Add("unused", "", v.source,
          absl::StrCat("value '", v.name, "' is declared, but no node reads or writes it"),
          DidYouMean(v.name, others));
    }
  }

  // The graph with a stand-in buffer for every value that has none yet: enough for names, writers and cycles.
  GraphBuilder Structure() {
    GraphBuilder copy(b_.peek());
    for (size_t i = 0; i < draft_.values.size(); ++i) {
      Value& v = copy.value(static_cast<ValueId>(i));
      if (draft_.values[i].has_buffer && v.buffer >= 0) continue;
      Buffer stand_in;
      stand_in.name = absl::StrCat("\x01", i);  // no text has this name
      stand_in.bytes = std::numeric_limits<int64_t>::max();
      v.buffer = copy.AddBuffer(std::move(stand_in));
    }
    return copy;
  }

  void PortsOnly() {
    if (!options_.check_types) return;
    const Graph& g = b_.peek();
    for (size_t i = 0; i < g.nodes().size(); ++i) {
      const Node& node = g.nodes()[i];
      if (!draft_.nodes[i].broken && node.async == AsyncRole::kNone)
        CheckPorts(g, node, node.outputs, findings_);
    }
  }

  BufferId OwnBuffer(ValueId id) {
    const Value& v = b_.value(id);
    const DraftValue& draft = draft_.values[id];
    Buffer buffer;
    buffer.name = v.name;
    buffer.bytes = v.offset + v.bytes() * (v.own_shard ? b_.peek().group_size(v.group) : 1);
    buffer.kind = draft.kind;
    buffer.persistent =
        draft.kind == BufferKind::kParameter || draft.kind == BufferKind::kOptimizerState;
    return b_.AddBuffer(std::move(buffer));
  }

  // Values that no node writes must be declared whole; what nodes write comes with the node.
  void Declared(const Graph& structure) {
    for (size_t i = 0; i < draft_.values.size(); ++i) {
      const ValueId id = static_cast<ValueId>(i);
      if (structure.producer(id) >= 0 || draft_.values[i].has_buffer) continue;
      const Value& v = b_.value(id);
      if (!draft_.values[i].has_shape) {
        if (draft_.values[i].used) {
          Add("type", "", v.source,
              absl::StrCat("value '", v.name, "' has no shape, and no node writes it"),
              "add shape: [...]");
        }
        skips_.unknown_values[i] = true;
      }
      b_.value(id).buffer = OwnBuffer(id);
    }
  }

  void Infer(NodeId id) {
    Node& node = b_.node(id);
    if (node.async == AsyncRole::kDone) {
      if (node.is_collective) node.collective = b_.node(node.partner).collective;
      return;  // its outputs came with its start
    }
    const std::vector<ValueId> outputs =
        node.async == AsyncRole::kStart ? b_.node(node.partner).outputs : node.outputs;
    bool known = !draft_.nodes[id].broken && options_.check_types;
    for (ValueId v : node.inputs) known = known && !skips_.unknown_values[v];
    if (known && node.is_collective) CollectiveDefaults(id);
    std::vector<Value> inferred;
    for (ValueId v : outputs) {
      inferred.push_back(b_.value(v));
      if (!HasType(v)) inferred.back().shape = kUnknownShape;
    }
    Findings ignored;  // CheckTypes says them again, in the order of the text
    const bool good = known && CheckPorts(b_.peek(), node, outputs, ignored) &&
                      InferOutputs(b_.peek(), node, inferred, ignored);
    for (size_t i = 0; i < outputs.size(); ++i) Output(node, outputs[i], i, inferred[i], good);
    const OpContract* op = OpContracts::Global().Find(node.op);
    if (good && !draft_.nodes[id].has_cost && op->cost) {
      const OpCost cost = op->cost(b_.peek(), node);
      b_.node(id).flops = cost.flops;
      b_.node(id).memory_bytes = cost.memory_bytes;
    }
  }

  bool HasType(ValueId v) const {
    return draft_.values[v].has_buffer || draft_.values[v].has_shape;
  }

  void Output(const Node& node, ValueId id, size_t index, const Value& inferred, bool good) {
    DraftValue& draft = draft_.values[id];
    if (draft.has_buffer) return;
    Value& v = b_.value(id);
    if (!HasType(id)) {
      const bool scalar = draft.declared && draft.has_dtype;
      if (good && inferred.shape == kUnknownShape && !scalar) {
        Add("type", node.name, v.source,
            absl::StrCat("writes '", v.name, "', whose shape operation '", node.op,
                         "' does not tell"),
            absl::StrCat("add value { name: \"", v.name, "\" shape: [...] }"));
        good = false;
      } else if (!good && !options_.check_types) {
        Add("type", node.name, v.source, absl::StrCat("writes '", v.name, "', which has no shape"));
      }
      if (!good) skips_.unknown_values[id] = true;
      if (good) {
        if (inferred.shape != kUnknownShape) v.shape = inferred.shape;
        if (!draft.has_dtype) v.dtype = inferred.dtype;
        if (!draft.has_sharding) {
          v.sharding = inferred.sharding;
          v.group = inferred.group;
        }
      }
    }
    if (v.buffer >= 0) return;  // its node is met a second time: two writers
    const OpContract* op = OpContracts::Global().Find(node.op);
    const int in_place =
        op != nullptr && index < op->outputs.size() ? op->outputs[index].in_place_of : -1;
    if (in_place >= 0 && in_place < static_cast<int>(node.inputs.size())) {
      const Value& in = b_.value(node.inputs[in_place]);
      v.buffer = in.buffer;
      v.offset = in.offset;
      v.own_shard = in.own_shard;
      if (v.group.empty()) v.group = in.group;
      if (v.bucket < 0) v.bucket = in.bucket;
      return;
    }
    if (!draft.has_kind && node.is_collective && !node.inputs.empty()) {
      draft.kind = b_.peek().buffers()[b_.value(node.inputs[0]).buffer].kind;
      if (draft.kind == BufferKind::kParameter) draft.kind = BufferKind::kGathered;
    }
    v.buffer = OwnBuffer(id);
  }

  void CollectiveDefaults(NodeId id) {
    Node& node = b_.node(id);
    if (node.inputs.empty()) return;
    if (!draft_.nodes[id].has_dtype) node.collective.dtype = b_.value(node.inputs[0]).dtype;
    if (draft_.nodes[id].has_count) return;
    int64_t sum = 0;
    for (ValueId v : node.inputs) sum += b_.value(v).numel();
    const bool scatters = node.collective.op == CollectiveOp::kReduceScatter;
    const int n = b_.peek().group_size(node.collective.group);
    // A sum that does not divide is left at 0; the contract then says what is wrong.
    node.collective.count = !scatters ? sum : sum % n == 0 ? sum / n : 0;
  }

  // Stage 3 keeps a shard of every parameter on each rank, so nobody may read a whole one that is not gathered.
  void WholeParameters(const Graph& g) {
    for (size_t n = 0; n < g.nodes().size(); ++n) {
      const Node& node = g.nodes()[n];
      const OpContract* op = OpContracts::Global().Find(node.op);
      if (op == nullptr || op->is_collective) continue;
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        const Value& v = g.values()[node.inputs[i]];
        const bool whole = g.buffers()[v.buffer].kind == BufferKind::kParameter && !v.own_shard &&
                           v.sharding == Sharding::kReplicated && g.group_size("data") > 1;
        bool updates = false;
        for (const PortSpec& out : op->outputs) updates |= out.in_place_of == static_cast<int>(i);
        if (!whole || updates) continue;
        Add("type", node.name, node.source,
            absl::StrCat("reads parameter '", v.name,
                         "' whole, but at parallel.zero.stage 3 each rank holds a ",
                         "shard only; it needs an all_gather before it"),
            absl::StrCat("declare '", v.name, "' with sharding: \"sharded\" and 1/",
                         g.group_size("data"),
                         " of the elements, and read the output of an all_gather"));
      }
    }
  }

  DraftGraph draft_;
  GraphBuilder& b_;
  const GraphTextOptions& options_;
  Findings& findings_;
  TypeCheckSkips skips_;
};

}  // namespace

absl::StatusOr<Graph> FinishGraph(DraftGraph draft, const GraphTextOptions& options,
                                  Findings& findings) {
  return Finisher(std::move(draft), options, findings).Run();
}

}  // namespace millrace
