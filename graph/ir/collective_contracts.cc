// Contracts of the collectives and of join, which makes of slices what a collective takes. What is gathered
// must be a shard, what is reduced a partial sum, and the elements on both sides must fit the size of the
// group. Reached by name through OpContracts.
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "graph/ir/op_contract.h"

namespace millrace {
namespace {

template <typename... Args>
absl::Status Invalid(const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat(args...));
}

BufferKind KindOf(const InferContext& c, const Value& v) {
  const auto& buffers = c.graph->buffers();
  if (v.buffer < 0 || v.buffer >= static_cast<BufferId>(buffers.size()))
    return BufferKind::kActivation;
  return buffers[v.buffer].kind;
}

bool Declared(const Value& v) { return v.shape != std::vector<int64_t>{-1}; }

// All inputs of one element type; their elements in all.
absl::StatusOr<int64_t> SumOfInputs(const InferContext& c) {
  if (c.inputs.empty()) return Invalid("has no input, expected one or more");
  int64_t sum = 0;
  for (const Value* v : c.inputs) {
    if (v->dtype != c.inputs[0]->dtype) {
      return Invalid("'", c.inputs[0]->name, "' is ", Name(c.inputs[0]->dtype), ", '", v->name,
                     "' is ", Name(v->dtype), "; expected the same element type");
    }
    sum += v->numel();
  }
  if (c.node->is_collective && c.node->collective.dtype != c.inputs[0]->dtype) {
    return Invalid("communicates ", Name(c.node->collective.dtype), ", but '", c.inputs[0]->name,
                   "' is ", Name(c.inputs[0]->dtype));
  }
  return sum;
}

std::string GroupOf(const InferContext& c) {
  return c.node->is_collective ? c.node->collective.group : std::string("data");
}

// The single output: what is declared must have `numel` elements, an undeclared one becomes flat.
absl::Status SetOutput(InferContext& c, int64_t numel, Sharding sharding) {
  Value& out = c.outputs[0];
  if (!Declared(out)) {
    out.shape = {numel};
  } else if (out.numel() != numel) {
    return Invalid("writes '", out.name, "' with ", out.numel(), " elements, expected ", numel);
  }
  out.dtype = c.inputs[0]->dtype;
  out.sharding = sharding;
  out.group = sharding == Sharding::kReplicated ? "" : GroupOf(c);
  return absl::OkStatus();
}

absl::Status CheckCount(const InferContext& c, int64_t count) {
  if (c.node->is_collective && c.node->collective.count > 0 && c.node->collective.count != count) {
    return Invalid("has count ", c.node->collective.count, ", expected ", count);
  }
  return absl::OkStatus();
}

absl::Status InferAllGather(InferContext& c) {
  auto sum = SumOfInputs(c);
  if (!sum.ok()) return sum.status();
  const int n = c.graph->group_size(GroupOf(c));
  for (const Value* v : c.inputs) {
    const bool sharded =
        v->sharding == Sharding::kSharded || v->own_shard || KindOf(c, *v) == BufferKind::kMetric;
    if (!sharded && n > 1) {
      return Invalid("gathers '", v->name, "', which is ", Name(v->sharding),
                     ", not sharded; expected each rank's shard");
    }
  }
  if (absl::Status s = CheckCount(c, *sum); !s.ok()) return s;
  return SetOutput(c, *sum * n, Sharding::kReplicated);
}

absl::Status CheckPartial(const InferContext& c, const char* verb) {
  for (const Value* v : c.inputs) {
    if (v->sharding != Sharding::kPartial || v->group == GroupOf(c) ||
        c.graph->group_size(v->group) == 1) {
      continue;
    }
    return Invalid(verb, " '", v->name, "' over group '", GroupOf(c),
                   "', but it is a partial sum over '", v->group, "'");
  }
  if (c.graph->group_size(GroupOf(c)) == 1) return absl::OkStatus();
  for (const Value* v : c.inputs) {
    if (v->sharding != Sharding::kPartial) {
      return Invalid(verb, " '", v->name, "', which is ", Name(v->sharding),
                     ", not partial; the sum would count it more than once");
    }
  }
  return absl::OkStatus();
}

// The slices of a bucket may leave padding between them, so their sum may be less than the bucket.
absl::Status InferReduceScatter(InferContext& c) {
  auto sum = SumOfInputs(c);
  if (!sum.ok()) return sum.status();
  if (absl::Status s = CheckPartial(c, "reduces"); !s.ok()) return s;
  const int n = c.graph->group_size(GroupOf(c));
  int64_t count = c.node->is_collective ? c.node->collective.count : 0;
  if (count == 0) {
    if (*sum % n != 0)
      return Invalid("scatters ", *sum, " elements over ", n, " ranks; expected a multiple");
    count = *sum / n;
  }
  if (*sum > count * n) {
    return Invalid("reads ", *sum, " elements, expected at most count x ranks = ", count * n);
  }
  return SetOutput(c, count, Sharding::kSharded);
}

absl::Status InferAllReduce(InferContext& c) {
  auto sum = SumOfInputs(c);
  if (!sum.ok()) return sum.status();
  if (absl::Status s = CheckPartial(c, "reduces"); !s.ok()) return s;
  const int64_t count =
      c.node->is_collective && c.node->collective.count > 0 ? c.node->collective.count : *sum;
  if (*sum > count) return Invalid("reads ", *sum, " elements, expected at most count = ", count);
  return SetOutput(c, count, Sharding::kReplicated);
}

// The slices of one bucket seen as one value on the same bytes.
absl::Status InferJoin(InferContext& c) {
  auto sum = SumOfInputs(c);
  if (!sum.ok()) return sum.status();
  for (const Value* v : c.inputs) {
    if (v->sharding == c.inputs[0]->sharding) continue;
    return Invalid("joins '", c.inputs[0]->name, "' (", Name(c.inputs[0]->sharding), ") and '",
                   v->name, "' (", Name(v->sharding), "); expected the same sharding");
  }
  if (!Declared(c.outputs[0])) c.outputs[0].shape = {*sum};
  if (*sum != c.outputs[0].numel()) {
    return Invalid("writes '", c.outputs[0].name, "' with ", c.outputs[0].numel(),
                   " elements, its inputs have ", *sum);
  }
  c.outputs[0].dtype = c.inputs[0]->dtype;
  c.outputs[0].sharding = c.inputs[0]->sharding;
  c.outputs[0].group = c.inputs[0]->group;
  return absl::OkStatus();
}

OpCost ReadAndWriteAll(const Graph& g, const Node& node) {
  OpCost cost;
  for (ValueId v : node.inputs) {
    cost.memory_bytes += g.values()[v].bytes();
    cost.flops += g.values()[v].numel();
  }
  for (ValueId v : node.outputs) cost.memory_bytes += g.values()[v].bytes();
  return cost;
}

REGISTER_OP_CONTRACT(all_gather,
                     OpContract("all_gather",
                                "Every rank gets the shards of all ranks, in rank order.")
                         .InVariadic("shard", "this rank's shard; several lie one after another")
                         .Out("whole", "ranks x shard, replicated")
                         .Collective(CollectiveOp::kAllGather)
                         .Infer(InferAllGather));

REGISTER_OP_CONTRACT(
    reduce_scatter,
    OpContract("reduce_scatter",
               "Sums over the ranks in rank order; each rank keeps its part of the sum.")
        .InVariadic("partial", "slices of one flat bucket, partial sums")
        .Out("shard", "this rank's part of the sum")
        .Collective(CollectiveOp::kReduceScatter)
        .Infer(InferReduceScatter)
        .Cost(ReadAndWriteAll));

REGISTER_OP_CONTRACT(all_reduce,
                     OpContract("all_reduce",
                                "Sums over the ranks in rank order; each rank gets all of it.")
                         .InVariadic("partial", "slices of one flat bucket, partial sums")
                         .Out("sum", "replicated")
                         .Collective(CollectiveOp::kAllReduce)
                         .Infer(InferAllReduce)
                         .Cost(ReadAndWriteAll));

REGISTER_OP_CONTRACT(join,
                     OpContract("join",
                                "Does nothing: says that the slices of a bucket, once all are "
                                "written, are one value.")
                         .InVariadic("slices", "neighbouring slices of one buffer")
                         .Out("whole", "on the same bytes")
                         .Attr("bucket", int64_t{-1}, "flat bucket of the slices")
                         .Infer(InferJoin));

}  // namespace
}  // namespace millrace
