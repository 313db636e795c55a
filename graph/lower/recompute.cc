#include "graph/lower/recompute.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/base/findings.h"
#include "graph/base/status.h"
#include "graph/lower/rewriter.h"

namespace millrace {
namespace {

// Whether recomputing the stage would save anything.
bool Worthwhile(const ModelSpec& spec, size_t stage) {
  return stage + 1 < spec.stages.size() && spec.stages[stage].saved_bytes > 0;
}

std::vector<std::string> StageNames(const ModelSpec& spec) {
  std::vector<std::string> names;
  for (const StageSpec& stage : spec.stages) names.push_back(stage.name);
  return names;
}

class Recomputer {
 public:
  Recomputer(const Graph& graph, const ModelSpec& spec) : graph_(graph), spec_(spec), r_(graph) {}

  absl::StatusOr<Graph> Run(const std::vector<bool>& recomputed) {
    for (size_t n = 0; n < graph_.nodes().size(); ++n) {
      const Node& node = graph_.nodes()[n];
      if (node.op != "backward") continue;
      const int64_t stage = IntAttr(node, "stage", 0);
      if (recomputed[stage]) RETURN_IF_ERROR(Stage(static_cast<NodeId>(n), spec_.stages[stage]));
      before_ = static_cast<NodeId>(n);
    }
    return std::move(r_).Finish();
  }

 private:
  absl::Status Stage(NodeId backward, const StageSpec& stage) {
    const int64_t m = IntAttr(graph_.nodes()[backward], "micro_batch", 0);
    const std::string tail = absl::StrCat(stage.name, "/", m);
    const NodeId forward = graph_.FindNode(absl::StrCat("forward/", tail));
    if (forward < 0) return absl::InternalError(absl::StrCat("expected a node forward/", tail));
    const Node& first = graph_.nodes()[forward];
    Node again{.name = absl::StrCat("recompute/", tail), .op = "recompute"};
    again.inputs = first.inputs;
    again.attrs = first.attrs;
    again.flops = first.flops;
    again.memory_bytes = first.memory_bytes;
    again.operators = first.operators;
    again.control = {before_};  // the backward of the stage behind it
    std::vector<ValueId> kept;
    for (ValueId v : first.outputs) {
      const Value& value = graph_.values()[v];
      switch (graph_.buffers()[value.buffer].kind) {
        case BufferKind::kSaved:
          again.outputs.push_back(v);
          break;
        case BufferKind::kWorkspace:
          break;  // each of the two gets its own
        default:
          kept.push_back(v);
          again.outputs.push_back(
              Scratch(Again(value.name), value.dtype, value.shape, BufferKind::kActivation));
      }
    }
    AddWorkspace(stage.forward, again.name, &again.outputs);
    AddWorkspace(stage.evaluate, first.name, &kept);
    r_.node(forward).outputs = std::move(kept);
    r_.node(forward).attrs["evaluate"] = int64_t{1};
    r_.InsertBefore(backward, std::move(again));
    return absl::OkStatus();
  }

  // "act/a/0" -> "again/a/0"
  static std::string Again(const std::string& name) {
    return absl::StrCat("again", name.substr(name.find('/')));
  }

  ValueId Scratch(std::string name, DType dtype, std::vector<int64_t> shape, BufferKind kind) {
    return r_.AddValueWithBuffer(
        {.name = std::move(name), .dtype = dtype, .shape = std::move(shape)}, kind);
  }

  void AddWorkspace(const AllocationPlan& plan, const std::string& node,
                    std::vector<ValueId>* outputs) {
    if (plan.workspace_bytes == 0) return;
    outputs->push_back(Scratch(absl::StrCat("ws/", node), DType::kU8, {plan.workspace_bytes},
                               BufferKind::kWorkspace));
  }

  const Graph& graph_;
  const ModelSpec& spec_;
  Rewriter r_;
  NodeId before_ = -1;  // the backward that runs before the one at hand
};

class RecomputePass final : public Pass {
 public:
  absl::string_view name() const override { return "recompute"; }
  absl::StatusOr<Graph> Run(const Graph& graph, const LowerContext& context) const override {
    const RecomputeOptions& options = context.options.recompute;
    if (!options.any()) return graph;
    Findings findings;
    for (const RecomputeMistake& m : CheckRecompute(context.spec, options)) {
      findings.Add({.check = "recompute", .message = m.message, .suggestion = m.suggestion});
    }
    RETURN_IF_ERROR(findings.ToStatus());
    return Recomputer(graph, context.spec).Run(RecomputedStages(context.spec, options));
  }
};

}  // namespace

std::unique_ptr<Pass> RecomputeStages() { return std::make_unique<RecomputePass>(); }

std::vector<bool> RecomputedStages(const ModelSpec& spec, const RecomputeOptions& options) {
  std::vector<bool> recomputed(spec.stages.size());
  for (size_t s = 0; s < spec.stages.size(); ++s) {
    const bool asked =
        options.all || (options.every > 0 && (s + 1) % static_cast<size_t>(options.every) == 0) ||
        std::count(options.stages.begin(), options.stages.end(), spec.stages[s].name) > 0;
    recomputed[s] = asked && Worthwhile(spec, s);
  }
  return recomputed;
}

std::vector<RecomputeMistake> CheckRecompute(const ModelSpec& spec,
                                             const RecomputeOptions& options) {
  std::vector<RecomputeMistake> mistakes;
  const std::vector<std::string> names = StageNames(spec);
  for (size_t i = 0; i < options.stages.size(); ++i) {
    const std::string& wanted = options.stages[i];
    const auto it = std::find(names.begin(), names.end(), wanted);
    const auto entry = static_cast<int>(i);
    if (it == names.end()) {
      const std::string near = Nearest(wanted, names);
      mistakes.push_back({entry, absl::StrCat("model ", spec.name, " has no stage '", wanted, "'"),
                          near.empty() ? absl::StrCat("its stages: ", absl::StrJoin(names, ", "))
                                       : absl::StrCat("did you mean '", near, "'?")});
    } else if (std::find(options.stages.begin(), options.stages.begin() + entry, wanted) !=
               options.stages.begin() + entry) {
      mistakes.push_back(
          {entry, absl::StrCat("stage '", wanted, "' is named twice"), "take one of them out"});
    } else if (!Worthwhile(spec, it - names.begin())) {
      mistakes.push_back(
          {entry,
           absl::StrCat("recomputing stage '", wanted, "' changes nothing: ",
                        wanted == names.back()
                            ? "it is the last one, its backward follows its forward at once"
                            : "it saves nothing for its backward"),
           "take it out"});
    }
  }
  const std::vector<bool> recomputed = RecomputedStages(spec, options);
  const bool none = std::count(recomputed.begin(), recomputed.end(), true) == 0;
  if (none && (options.all || options.every > 0)) {
    mistakes.push_back(
        {-1,
         absl::StrCat("memory.recompute.",
                      options.all ? "all" : absl::StrCat("every ", options.every),
                      " matches no stage: model ", spec.name, " has ", names.size() - 1,
                      " before its last, which is never recomputed"),
         options.all ? "take it out" : absl::StrCat("at most ", names.size() - 1)});
  }
  return mistakes;
}

}  // namespace millrace
