#include "graph/lower/edited_step.h"

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace millrace {
namespace {

bool IsStage(const Node& node) { return node.attrs.count("stage") > 0; }

// What a stage's kernel goes by: its operation, stage and micro-batch.
std::tuple<std::string, int64_t, int64_t> Part(const Node& node) {
  return {node.op, IntAttr(node, "stage", -1), IntAttr(node, "micro_batch", 0)};
}

std::string TypeOf(const Graph& graph, ValueId v) {
  const Value& value = graph.values()[v];
  return absl::StrCat(Name(value.dtype), "[", absl::StrJoin(value.shape, ", "), "]");
}

class EditedStep {
 public:
  EditedStep(const Graph& edited, const Graph& lowered, Findings& findings)
      : edited_(edited), lowered_(lowered), findings_(findings) {
    for (const Node& node : lowered.nodes()) {
      if (IsStage(node)) parts_[Part(node)].push_back(&node);
    }
  }

  void Check() {
    Buckets();
    for (const Node& node : edited_.nodes()) {
      if (IsStage(node)) Stage(node);
    }
  }

 private:
  void Add(const Node* node, std::string message, std::string suggestion) {
    Finding f;
    f.check = "edited_step";
    f.message = std::move(message);
    f.suggestion = std::move(suggestion);
    if (node != nullptr) {
      f.node = node->name;
      f.file = node->source.file;
      f.line = node->source.line;
      f.column = node->source.column;
    }
    findings_.Add(std::move(f));
  }

  void Buckets() {
    const std::string help =
        "leave the buckets as `millrace export --what graph` prints them for these settings "
        "(parallel.zero.stage and "
        "parallel.zero.reduce_bucket_bytes decide them)";
    if (edited_.buckets().size() != lowered_.buckets().size()) {
      Add(nullptr,
          absl::StrCat("the graph has ", edited_.buckets().size(),
                       " buckets of parameters, the model has ", lowered_.buckets().size()),
          help);
      return;
    }
    for (size_t b = 0; b < edited_.buckets().size(); ++b) {
      const Bucket& mine = edited_.buckets()[b];
      const Bucket& theirs = lowered_.buckets()[b];
      bool same = mine.name == theirs.name && mine.numel == theirs.numel &&
                  mine.slots.size() == theirs.slots.size();
      for (size_t s = 0; same && s < mine.slots.size(); ++s) {
        const ParamSlot& x = mine.slots[s];
        const ParamSlot& y = theirs.slots[s];
        same =
            x.stage == y.stage && x.param == y.param && x.offset == y.offset && x.numel == y.numel;
      }
      if (!same) {
        Add(nullptr,
            absl::StrCat("bucket '", mine.name, "' is not laid out as the model's bucket '",
                         theirs.name, "'"),
            help);
      }
    }
  }

  void Stage(const Node& node) {
    const auto at = parts_.find(Part(node));
    if (at == parts_.end()) {
      Add(&node,
          absl::StrCat("the model has no ", node.op, " of stage ", IntAttr(node, "stage", -1),
                       " for micro-batch ", IntAttr(node, "micro_batch", 0)),
          "train.accumulation decides the number of micro-batches, the model the stages");
      return;
    }
    std::string wrong;
    for (const Node* twin : at->second) {
      wrong = Ports(node.inputs, twin->inputs, "reads");
      if (wrong.empty()) wrong = Ports(node.outputs, twin->outputs, "writes");
      if (wrong.empty()) return;
    }
    Add(&node, absl::StrCat(wrong, " as the model's '", at->second.back()->name, "' does"),
        "train.micro_batch and the model decide the shapes");
  }

  // "" when the types are the same.
  std::string Ports(const std::vector<ValueId>& mine, const std::vector<ValueId>& theirs,
                    const char* verb) const {
    std::vector<std::string> have, want;
    for (const ValueId v : mine) have.push_back(TypeOf(edited_, v));
    for (const ValueId v : theirs) want.push_back(TypeOf(lowered_, v));
    if (have == want) return "";
    return absl::StrCat(verb, " ", absl::StrJoin(have, " "), ", expected ",
                        absl::StrJoin(want, " "));
  }

  const Graph& edited_;
  const Graph& lowered_;
  Findings& findings_;
  std::map<std::tuple<std::string, int64_t, int64_t>, std::vector<const Node*>> parts_;
};

}  // namespace

void CheckEditedStep(const Graph& edited, const Graph& lowered, Findings& findings) {
  EditedStep(edited, lowered, findings).Check();
}

}  // namespace millrace
