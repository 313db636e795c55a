// Printing a graph, and the words that graphs' texts are made of. Reading is in graph_from_proto.cc.
#include "graph/ir/text.h"

#include <google/protobuf/text_format.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "graph/ir/op_contract.h"

namespace millrace {
namespace {

void FillBucket(const Bucket& bucket, const ModelSpec* spec, BucketDef* def) {
  def->set_name(bucket.name);
  def->set_numel(bucket.numel);
  for (const ParamSlot& slot : bucket.slots) {
    ParamSlotDef* s = def->add_slot();
    if (spec != nullptr) s->set_param(spec->stages[slot.stage].params[slot.param].name);
    s->set_stage(slot.stage);
    s->set_index(slot.param);
    s->set_offset(slot.offset);
    s->set_numel(slot.numel);
  }
}

void FillBuffer(const Buffer& buffer, BufferDef* def) {
  def->set_name(buffer.name);
  def->set_bytes(buffer.bytes);
  if (buffer.tier != Tier::kDevice) def->set_tier(std::string(Name(buffer.tier)));
  if (buffer.kind != BufferKind::kActivation) def->set_kind(std::string(Name(buffer.kind)));
  if (buffer.persistent) def->set_persistent(true);
}

void FillValue(const Graph& graph, const Value& value, ValueDef* def) {
  def->set_name(value.name);
  if (value.dtype != DType::kF32) def->set_dtype(std::string(Name(value.dtype)));
  for (int64_t d : value.shape) def->add_shape(d);
  if (value.sharding != Sharding::kReplicated) def->set_sharding(std::string(Name(value.sharding)));
  const bool group_by_default = value.sharding != Sharding::kReplicated || value.own_shard;
  if (value.group != (group_by_default ? "data" : "")) def->set_group(value.group);
  def->set_buffer(graph.buffers()[value.buffer].name);
  if (value.offset != 0) def->set_offset(value.offset);
  if (value.own_shard) def->set_own_shard(true);
  if (value.bucket != -1) def->set_bucket(value.bucket);
}

void FillNode(const Graph& graph, const Node& node, NodeDef* def) {
  def->set_name(node.name);
  def->set_op(node.op);
  for (ValueId v : node.inputs) def->add_input(graph.values()[v].name);
  for (ValueId v : node.outputs) def->add_output(graph.values()[v].name);
  for (NodeId c : node.control) def->add_control(graph.nodes()[c].name);
  for (const auto& [name, value] : node.attrs) {
    Arg* arg = def->add_attr();
    arg->set_name(name);
    if (const auto* i = std::get_if<int64_t>(&value)) arg->set_i(*i);
    if (const auto* f = std::get_if<double>(&value)) arg->set_f(*f);
    if (const auto* s = std::get_if<std::string>(&value)) arg->set_s(*s);
    if (const auto* b = std::get_if<bool>(&value)) arg->set_b(*b);
  }
  if (node.async != AsyncRole::kNone) {
    def->set_async(node.async == AsyncRole::kStart ? "start" : "done");
    def->set_partner(graph.nodes()[node.partner].name);
  }
  if (node.is_collective) {
    def->set_group(node.collective.group);
    def->set_count(node.collective.count);
    def->set_dtype(std::string(Name(node.collective.dtype)));
    if (Name(node.collective.op) != node.op)
      def->set_collective(std::string(Name(node.collective.op)));
  }
  // Where the contract would fill the cost in, a cost of 0 is said, too.
  const OpContract* op = OpContracts::Global().Find(node.op);
  if (node.flops != 0 || node.memory_bytes != 0 || (op != nullptr && op->cost)) {
    def->set_flops(node.flops);
    def->set_memory_bytes(node.memory_bytes);
  }
  if (node.operators != 0) def->set_operators(node.operators);
}

// The printer writes ' as \' although its strings stand in double quotes; names of updated values end with it.
std::string PlainQuotes(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) {
      if (text[i + 1] != '\'') out += text[i];
      ++i;
    }
    out += text[i];
  }
  return out;
}

template <typename Enum>
std::optional<Enum> ParseName(absl::string_view name, int count) {
  for (int i = 0; i < count; ++i) {
    if (Name(static_cast<Enum>(i)) == name) return static_cast<Enum>(i);
  }
  return std::nullopt;
}

}  // namespace

GraphDef ToProto(const Graph& graph, const ModelSpec* spec) {
  GraphDef def;
  def.set_name(graph.name());
  for (const auto& [name, size] : graph.groups()) {
    GroupDef* group = def.add_group();
    group->set_name(name);
    group->set_size(size);
  }
  for (const Bucket& bucket : graph.buckets()) FillBucket(bucket, spec, def.add_bucket());
  for (const Buffer& buffer : graph.buffers()) FillBuffer(buffer, def.add_buffer());
  for (const Value& value : graph.values()) FillValue(graph, value, def.add_value());
  for (const Node& node : graph.nodes()) FillNode(graph, node, def.add_node());
  return def;
}

std::string ToText(const Graph& graph, const ModelSpec* spec) {
  return ToText(ToProto(graph, spec));
}

std::string ToText(const GraphDef& def) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  printer.SetUseShortRepeatedPrimitives(true);
  std::string out = absl::StrCat("name: \"", absl::CEscape(def.name()), "\"\n");
  std::string line;
  auto print = [&](const char* field, const auto& list) {
    for (const auto& entry : list) {
      printer.PrintToString(entry, &line);
      line = PlainQuotes(line);
      absl::StrAppend(&out, field, " { ", line,
                      line.empty() || line.back() == ' ' ? "}\n" : " }\n");
    }
  };
  print("group", def.group());
  print("bucket", def.bucket());
  print("buffer", def.buffer());
  print("value", def.value());
  print("node", def.node());
  return out;
}

std::vector<ParamSpec> HandWrittenParameters(const GraphDef& def) {
  std::vector<ParamSpec> params;
  for (const ValueDef& value : def.value()) {
    if (value.kind() != "parameter") continue;
    ParamSpec p;
    p.name = value.name();
    p.shape.assign(value.shape().begin(), value.shape().end());
    p.dtype = ParseDType(value.dtype()).value_or(DType::kF32);
    p.init = ParseInit(value.init()).value_or(InitSpec{});
    params.push_back(std::move(p));
  }
  return params;
}

std::optional<InitSpec> ParseInit(absl::string_view text) {
  using Kind = InitSpec::Kind;
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  const auto& [name, scale] = parts;
  if (text == "zeros") return InitSpec{Kind::kZeros, 0};
  if (text == "ones") return InitSpec{Kind::kOnes, 0};
  InitSpec init;
  if (!absl::SimpleAtod(scale, &init.scale)) return std::nullopt;
  if (name == "constant") {
    init.kind = Kind::kConstant;
  } else if (init.scale <= 0) {
    return std::nullopt;
  } else if (name == "normal") {
    init.kind = Kind::kNormal;
  } else if (name == "truncated_normal") {
    init.kind = Kind::kTruncatedNormal;
  } else if (name == "uniform") {
    init.kind = Kind::kUniform;
  } else {
    return std::nullopt;
  }
  return init;
}

std::optional<Tier> ParseTier(absl::string_view name) { return ParseName<Tier>(name, kTiers); }
std::optional<BufferKind> ParseBufferKind(absl::string_view name) {
  return ParseName<BufferKind>(name, static_cast<int>(BufferKind::kMetric) + 1);
}
std::optional<Sharding> ParseSharding(absl::string_view name) {
  return ParseName<Sharding>(name, static_cast<int>(Sharding::kPartial) + 1);
}
std::optional<CollectiveOp> ParseCollectiveOp(absl::string_view name) {
  return ParseName<CollectiveOp>(name, static_cast<int>(CollectiveOp::kBarrier) + 1);
}

}  // namespace millrace
