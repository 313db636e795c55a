// What an operation promises, apart from how it runs: ports, attributes, shapes, cost. A graph is
// fully checked with no kernel linked; kernels register under the same name in ops/.
//
// The operations that the lowering passes emit ("forward", "backward", "all_gather", "adamw", ...)
// have their contracts in builtin_contracts.cc; an operation for hand-written graphs declares its
// own beside its kernel:
//   REGISTER_OP_CONTRACT(relu, OpContract("relu", "y = max(x, 0)").In("x").Out("y").Infer(...));
#ifndef MILLRACE_GRAPH_IR_OP_CONTRACT_H_
#define MILLRACE_GRAPH_IR_OP_CONTRACT_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "graph/ir/graph.h"

namespace millrace {

struct PortSpec {
  std::string name;
  std::string doc;
  bool variadic = false;  // last port only: zero or more values
  bool optional = false;
  int in_place_of = -1;  // outputs: written into the bytes of this input
};

struct AttrSpec {
  std::string name;
  AttrValue default_value;  // its type is the attribute's type
  std::string doc;
  bool required = false;
};

// Given a node's inputs, what its outputs must look like. `outputs` has one entry for each output
// of the node: what the graph declares or, where a hand-written graph leaves the declaration out, a
// value with its name and the shape {-1}. The function checks the inputs and sets dtype, shape,
// sharding and group where it knows them; what it leaves alone is taken as declared (an entry that
// still has the shape {-1} is an error for the author).
//
//   .Infer([](InferContext& c) {
//     if (c.inputs[0]->shape.size() != 2) return absl::InvalidArgumentError("x has ..., expected
//     [rows, columns]"); c.outputs[0].CopyTypeFrom(*c.inputs[0]); return absl::OkStatus();
//   })
//
// On an asynchronous operation `node` is the start half, `outputs` those of the done half.
struct InferContext {
  const Graph* graph =
      nullptr;  // its tables (producer, order) may be missing; ids and groups are good
  const Node* node = nullptr;
  std::vector<const Value*> inputs;
  std::vector<Value> outputs;
};

struct OpCost {
  int64_t flops = 0;
  int64_t memory_bytes = 0;
};

class OpContract {
 public:
  OpContract(std::string name, std::string doc) : name(std::move(name)), doc(std::move(doc)) {}
  OpContract& In(std::string port, std::string doc = "") {
    inputs.push_back({std::move(port), std::move(doc)});
    return *this;
  }
  OpContract& InOptional(std::string port, std::string doc = "") {
    inputs.push_back({std::move(port), std::move(doc), false, true});
    return *this;
  }
  OpContract& InVariadic(std::string port, std::string doc = "") {
    inputs.push_back({std::move(port), std::move(doc), true});
    return *this;
  }
  OpContract& Out(std::string port, std::string doc = "") {
    outputs.push_back({std::move(port), std::move(doc)});
    return *this;
  }
  OpContract& OutVariadic(std::string port, std::string doc = "") {
    outputs.push_back({std::move(port), std::move(doc), true});
    return *this;
  }
  OpContract& OutInPlace(std::string port, int input) {
    outputs.push_back({std::move(port), "", false, false, input});
    return *this;
  }
  OpContract& OutOptional(std::string port, std::string doc = "") {
    outputs.push_back({std::move(port), std::move(doc), false, true});
    return *this;
  }
  OpContract& OutInPlaceOptional(std::string port, int input) {
    outputs.push_back({std::move(port), "", false, true, input});
    return *this;
  }
  OpContract& Attr(std::string attr, AttrValue fallback, std::string doc = "",
                   bool required = false) {
    attrs.push_back({std::move(attr), std::move(fallback), std::move(doc), required});
    return *this;
  }
  OpContract& Collective(CollectiveOp op) {
    is_collective = true;
    collective = op;
    return *this;
  }
  OpContract& Infer(std::function<absl::Status(InferContext&)> f) {
    infer = std::move(f);
    return *this;
  }
  OpContract& Cost(std::function<OpCost(const Graph&, const Node&)> f) {
    cost = std::move(f);
    return *this;
  }

  std::string name, doc;
  std::vector<PortSpec> inputs, outputs;
  std::vector<AttrSpec> attrs;
  bool is_collective = false;
  CollectiveOp collective = CollectiveOp::kAllReduce;
  // Absent: outputs are taken as the graph declares them.
  std::function<absl::Status(InferContext&)> infer;
  std::function<OpCost(const Graph&, const Node&)> cost;
};

// Process-wide; registration happens before main, look-ups are thread-safe after that.
class OpContracts {
 public:
  static OpContracts& Global();
  bool Register(OpContract contract);  // false (and ignored) when the name is taken
  const OpContract* Find(const std::string& name) const;  // nullptr when unknown
  std::vector<std::string> Names() const;                 // sorted

 private:
  std::map<std::string, OpContract> contracts_;
};

#define REGISTER_OP_CONTRACT(id, contract) \
  static const bool millrace_op_contract_##id = ::millrace::OpContracts::Global().Register(contract)

}  // namespace millrace

#endif  // MILLRACE_GRAPH_IR_OP_CONTRACT_H_
