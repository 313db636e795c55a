// Reading a graph from its text: first everything the text says (Reader), then what it leaves out, node by node
// in topological order (Infer), then the same checks that every graph gets.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/ir/hand_written.h"
#include "graph/ir/op_contract.h"
#include "graph/ir/text.h"
#include "graph/ir/type_check.h"

namespace millrace {
namespace {

template <typename Enum>
std::vector<std::string> AllNames(int count) {
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.push_back(std::string(Name(static_cast<Enum>(i))));
  return names;
}

class Reader {
 public:
  Reader(const GraphDef& def, const TextLocations& locations, const std::string& prefix,
         const GraphTextOptions& options, Findings& findings)
      : def_(def),
        locations_(locations),
        prefix_(prefix.empty() ? "" : prefix + "."),
        options_(options),
        findings_(findings),
        draft_(def.name()) {}

  DraftGraph Read() {
    Groups();
    for (int i = 0; i < def_.bucket_size(); ++i) ReadBucket(def_.bucket(i));
    for (int i = 0; i < def_.buffer_size(); ++i) ReadBuffer(i);
    for (int i = 0; i < def_.value_size(); ++i) ReadValue(i);
    for (int i = 0; i < def_.node_size(); ++i) nodes_.emplace(def_.node(i).name(), i);
    for (int i = 0; i < def_.node_size(); ++i) AddUndeclaredOutputs(i);
    for (int i = 0; i < def_.node_size(); ++i) ReadNode(i);
    return std::move(draft_);
  }

 private:
  using Index = absl::flat_hash_map<std::string, int32_t>;

  void Add(const char* check, const std::string& path, const std::string& node, std::string message,
           std::string suggestion = "") {
    const SourceLocation at = locations_.Find(prefix_ + path);
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

  // The parsed word, or a finding with all words that would do.
  template <typename T>
  T Word(std::optional<T> parsed, const std::string& word, const std::string& path,
         const std::string& owner, const std::vector<std::string>& expected, T fallback) {
    if (parsed.has_value()) return *parsed;
    Add("unknown_value", path, "",
        absl::StrCat(owner, " has ", path.substr(path.rfind('.') + 1), " '", word,
                     "', expected one of ", absl::StrJoin(expected, ", ")),
        DidYouMean(word, expected));
    return fallback;
  }

  static std::vector<std::string> Names(const Index& index) {
    std::vector<std::string> names;
    for (const auto& [name, id] : index) names.push_back(name);
    std::sort(names.begin(), names.end());
    return names;
  }

  void Groups() {
    std::map<std::string, int> groups = options_.groups;
    groups.emplace("data", 1);
    for (int i = 0; i < def_.group_size(); ++i) {
      const GroupDef& g = def_.group(i);
      const auto asked = options_.groups.find(g.name());
      if (g.size() < 1) {
        Add("group", absl::StrCat("group[", i, "].size"), "",
            absl::StrCat("group '", g.name(), "' has size ", g.size(), ", expected 1 or more"));
      } else if (asked != options_.groups.end() && asked->second != g.size()) {
        Add("group", absl::StrCat("group[", i, "].size"), "",
            absl::StrCat("group '", g.name(), "' has size ", g.size(), ", expected ", asked->second,
                         " as parallel.", g.name(), " says"),
            absl::StrCat("leave the group out, or set parallel.", g.name(), " to ", g.size()));
      } else {
        groups[g.name()] = g.size();
      }
    }
    for (const auto& [name, size] : groups) draft_.builder.SetGroup(name, size);
  }

  void ReadBucket(const BucketDef& def) {
    Bucket bucket;
    bucket.name = def.name();
    bucket.numel = def.numel();
    for (const ParamSlotDef& s : def.slot()) {
      bucket.slots.push_back({s.stage(), s.index(), s.offset(), s.numel()});
    }
    draft_.builder.AddBucket(std::move(bucket));
  }

  void ReadBuffer(int i) {
    const BufferDef& def = def_.buffer(i);
    const std::string path = absl::StrCat("buffer[", i, "]");
    const std::string owner = absl::StrCat("buffer '", def.name(), "'");
    Buffer buffer;
    buffer.name = def.name();
    buffer.bytes = def.bytes();
    buffer.tier = Word(ParseTier(def.tier()), def.tier(), path + ".tier", owner,
                       AllNames<Tier>(kTiers), Tier::kDevice);
    buffer.kind = Kind(def.kind(), path + ".kind", owner);
    buffer.persistent = def.persistent();
    buffers_.emplace(def.name(), i);
    draft_.builder.AddBuffer(std::move(buffer));
  }

  BufferKind Kind(const std::string& word, const std::string& path, const std::string& owner) {
    return Word(ParseBufferKind(word), word, path, owner,
                AllNames<BufferKind>(static_cast<int>(BufferKind::kMetric) + 1),
                BufferKind::kActivation);
  }

  void ReadValue(int i) {
    const ValueDef& def = def_.value(i);
    const std::string path = absl::StrCat("value[", i, "]");
    const std::string owner = absl::StrCat("value '", def.name(), "'");
    Value value;
    value.name = def.name();
    value.source = locations_.Find(prefix_ + path);
    std::vector<std::string> dtypes;
    for (int t = 0; t <= static_cast<int>(DType::kBool); ++t)
      dtypes.push_back(std::string(Name(static_cast<DType>(t))));
    value.dtype =
        Word(ParseDType(def.dtype()), def.dtype(), path + ".dtype", owner, dtypes, DType::kF32);
    value.shape.assign(def.shape().begin(), def.shape().end());
    value.sharding =
        Word(ParseSharding(def.sharding()), def.sharding(), path + ".sharding", owner,
             AllNames<Sharding>(static_cast<int>(Sharding::kPartial) + 1), Sharding::kReplicated);
    value.own_shard = def.own_shard();
    const bool grouped = value.sharding != Sharding::kReplicated || value.own_shard;
    value.group = def.has_group() ? def.group() : grouped ? "data" : "";
    value.offset = def.offset();
    value.bucket = def.bucket();
    if (value.bucket < -1 || value.bucket >= def_.bucket_size()) {
      Add("unknown_id", path + ".bucket", "",
          absl::StrCat(owner, " is part of bucket ", value.bucket,
                       def_.bucket_size() == 0
                           ? ", but there is none"
                           : absl::StrCat(", expected 0 to ", def_.bucket_size() - 1)));
    }
    if (def.has_init() && !ParseInit(def.init()).has_value()) {
      Add("unknown_value", path + ".init", "",
          absl::StrCat(
              owner, " has init '", def.init(),
              "', expected zeros, ones, constant:C, normal:S, truncated_normal:S or uniform:W"),
          DidYouMean(def.init(),
                     {"zeros", "ones", "normal:0.02", "truncated_normal:0.02", "uniform:0.1"}));
    }
    if (def.has_init() && def.kind() != "parameter") {
      Add("unused", path + ".init", "", absl::StrCat(owner, " has an init but is no parameter"),
          "add kind: \"parameter\" or take init out");
    }
    DraftValue draft;
    draft.kind = def.has_kind() ? Kind(def.kind(), path + ".kind", owner) : BufferKind::kActivation;
    if (def.has_buffer()) {
      const auto it = buffers_.find(def.buffer());
      if (it == buffers_.end()) {
        Add("unknown_name", path + ".buffer", "",
            absl::StrCat(owner, " lies in buffer '", def.buffer(), "', which is not declared"),
            DidYouMean(def.buffer(), Names(buffers_)));
      } else {
        value.buffer = it->second;
      }
    }
    draft.has_buffer = def.has_buffer();
    draft.declared = !def.has_buffer();
    draft.has_shape = def.shape_size() > 0;
    draft.has_dtype = def.has_dtype();
    draft.has_sharding = def.has_sharding();
    draft.has_kind = def.has_kind();
    values_.emplace(def.name(), i);
    draft_.builder.AddValue(std::move(value));
    draft_.values.push_back(draft);
  }

  void AddUndeclaredOutputs(int i) {
    for (int k = 0; k < def_.node(i).output_size(); ++k) {
      const std::string& name = def_.node(i).output(k);
      if (!values_.emplace(name, static_cast<int32_t>(draft_.values.size())).second) continue;
      Value value;
      value.name = name;
      value.source = locations_.Find(absl::StrCat(prefix_, "node[", i, "].output[", k, "]"));
      draft_.builder.AddValue(std::move(value));
      draft_.values.push_back(DraftValue{});
    }
  }

  void ReadNode(int i) {
    const NodeDef& def = def_.node(i);
    const std::string path = absl::StrCat("node[", i, "]");
    Node node;
    DraftNode draft;
    node.name = def.name();
    node.op = def.op();
    node.source = locations_.Find(prefix_ + path);
    for (int k = 0; k < def.input_size(); ++k) {
      const auto it = values_.find(def.input(k));
      if (it != values_.end()) {
        node.inputs.push_back(it->second);
        draft_.values[it->second].used = true;
      } else {
        draft.broken = true;
        Add("unknown_name", absl::StrCat(path, ".input[", k, "]"), def.name(),
            absl::StrCat("reads '", def.input(k), "', which no node writes and no value declares"),
            DidYouMean(def.input(k), Names(values_)));
      }
    }
    for (const std::string& output : def.output()) {
      node.outputs.push_back(values_.at(output));
      draft_.values[node.outputs.back()].used = true;
    }
    for (int k = 0; k < def.control_size(); ++k) {
      const NodeId id = NodeNamed(def.control(k), absl::StrCat(path, ".control[", k, "]"),
                                  def.name(), "waits for");
      if (id >= 0) node.control.push_back(id);
    }
    for (int k = 0; k < def.attr_size(); ++k)
      ReadAttr(def.attr(k), absl::StrCat(path, ".attr[", k, "]"), node);
    if (def.has_async()) {
      if (def.async() != "start" && def.async() != "done") {
        Add("unknown_value", path + ".async", def.name(),
            absl::StrCat("has async '", def.async(), "', expected start or done"),
            DidYouMean(def.async(), {"start", "done"}));
      } else {
        node.async = def.async() == "start" ? AsyncRole::kStart : AsyncRole::kDone;
      }
    }
    if (def.has_partner())
      node.partner = NodeNamed(def.partner(), path + ".partner", def.name(), "has partner");
    ReadCollective(def, path, node);
    node.flops = def.flops();
    node.memory_bytes = def.memory_bytes();
    node.operators = def.operators();
    draft.has_count = def.has_count();
    draft.has_dtype = def.has_dtype();
    draft.has_cost = def.has_flops() || def.has_memory_bytes();
    draft_.nodes.push_back(draft);
    draft_.builder.AddNode(std::move(node));
  }

  NodeId NodeNamed(const std::string& name, const std::string& path, const std::string& node,
                   const char* verb) {
    const auto it = nodes_.find(name);
    if (it != nodes_.end()) return it->second;
    Add("unknown_name", path, node,
        absl::StrCat(verb, " '", name, "', expected the name of a node"),
        DidYouMean(name, Names(nodes_)));
    return -1;
  }

  void ReadAttr(const Arg& arg, const std::string& path, Node& node) {
    AttrValue value;
    switch (arg.value_case()) {
      case Arg::kI:
        value = static_cast<int64_t>(arg.i());
        break;
      case Arg::kF:
        value = arg.f();
        break;
      case Arg::kS:
        value = arg.s();
        break;
      case Arg::kB:
        value = arg.b();
        break;
      default:
        Add("attribute", path, node.name,
            absl::StrCat("attribute '", arg.name(), "' has no value, expected i, f, s or b"));
        return;
    }
    if (!node.attrs.emplace(arg.name(), std::move(value)).second) {
      Add("attribute", path, node.name, absl::StrCat("attribute '", arg.name(), "' is set twice"));
    }
  }

  void ReadCollective(const NodeDef& def, const std::string& path, Node& node) {
    std::optional<CollectiveOp> op = ParseCollectiveOp(def.op());
    if (def.has_collective()) {
      op = Word(ParseCollectiveOp(def.collective()), def.collective(), path + ".collective",
                absl::StrCat("node '", def.name(), "'"),
                AllNames<CollectiveOp>(static_cast<int>(CollectiveOp::kBarrier) + 1),
                CollectiveOp::kAllReduce);
    } else if (const OpContract* contract = OpContracts::Global().Find(def.op());
               contract != nullptr && contract->is_collective) {
      op = contract->collective;
    }
    if (!op.has_value()) {
      for (const char* field : {"group", "count", "dtype"}) {
        const bool set = field[0] == 'g'   ? def.has_group()
                         : field[0] == 'c' ? def.has_count()
                                           : def.has_dtype();
        if (!set) continue;
        Add("unused", absl::StrCat(path, ".", field), def.name(),
            absl::StrCat("has a ", field, " but operation '", def.op(), "' is no collective"),
            "take it out");
      }
      return;
    }
    node.is_collective = true;
    node.collective.op = *op;
    node.collective.group = def.has_group() ? def.group() : "data";
    node.collective.count = def.count();
    if (def.has_dtype()) {
      node.collective.dtype =
          Word(ParseDType(def.dtype()), def.dtype(), path + ".dtype",
               absl::StrCat("node '", def.name(), "'"), {"f32", "bf16", "f16", "i64"}, DType::kF32);
    }
  }

  const GraphDef& def_;
  const TextLocations& locations_;
  const std::string prefix_;
  const GraphTextOptions& options_;
  Findings& findings_;
  DraftGraph draft_;
  Index buffers_, values_, nodes_;
};

}  // namespace

absl::StatusOr<Graph> GraphFromProto(const GraphDef& def, const TextLocations& locations,
                                     const std::string& prefix, const GraphTextOptions& options,
                                     Findings& findings) {
  Findings own;
  DraftGraph draft = Reader(def, locations, prefix, options, own).Read();
  absl::StatusOr<Graph> graph = FinishGraph(std::move(draft), options, own);
  findings.Append(own);
  if (!own.ok()) return own.ToStatus();
  return graph;
}

absl::StatusOr<Graph> ParseGraph(absl::string_view text, const std::string& file,
                                 const GraphTextOptions& options, Findings& findings) {
  GraphDef def;
  TextLocations locations;
  Findings own;
  ReadText(text, file, &def, &locations, own);
  absl::StatusOr<Graph> graph = GraphFromProto(def, locations, "", options, own);
  findings.Append(own);
  if (!own.ok()) return own.ToStatus();
  return graph;
}

}  // namespace millrace
