#include "pipelines/runner/compiled.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "graph/base/status.h"
#include "graph/ir/field_path.h"
#include "graph/lower/cross_memory.h"
#include "graph/lower/edited_step.h"
#include "graph/lower/lower.h"
#include "graph/lower/recompute.h"
#include "graph/plan/cost_table.h"
#include "graph/plan/planner.h"
#include "models/probe.h"
#include "pipelines/runner/back_end.h"

namespace millrace {
namespace {

Attrs ModelArgs(const Model& model) {
  Attrs attrs;
  for (const Arg& arg : model.arg()) {
    switch (arg.value_case()) {
      case Arg::kI:
        attrs[arg.name()] = static_cast<int64_t>(arg.i());
        break;
      case Arg::kF:
        attrs[arg.name()] = arg.f();
        break;
      case Arg::kS:
        attrs[arg.name()] = arg.s();
        break;
      case Arg::kB:
        attrs[arg.name()] = arg.b();
        break;
      default:
        break;
    }
  }
  return attrs;
}

absl::StatusOr<Machine> FindMachine(const LoadedPipeline& loaded,
                                    const std::vector<std::string>& folders, Findings& findings) {
  const std::string& name = loaded.proto.machine();
  std::vector<std::string> all = folders;
  all.push_back(loaded.file.substr(0, loaded.file.rfind('/')));
  for (const std::string& wanted : {name, name + ".textproto"}) {
    const absl::StatusOr<std::string> path = ResolvePath(wanted, all);
    if (path.ok() && absl::EndsWith(*path, ".textproto")) return LoadMachine(*path, findings);
  }
  std::vector<std::string> known;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folders.back(), ignored)) {
    known.push_back(entry.path().stem().string());
  }
  std::sort(known.begin(), known.end());
  const std::string near = DidYouMean(name, known);
  findings.Add(loaded.At("machine", "machine",
                         absl::StrCat("no machine '", name, "': looked for ", name,
                                      ".textproto in ", absl::StrJoin(all, ", ")),
                         near.empty() ? absl::StrCat("known: ", absl::StrJoin(known, ", "),
                                                     "; or the path of a machine textproto")
                                      : near));
  return findings.ToStatus();
}

// Settings of devices, which a machine of CPUs does not have. (What a pipeline alone tells is checked in
// graph/ir/pipeline_checks.cc.)
absl::Status CheckDeviceSettings(const CompiledPipeline& c, Findings& findings) {
  if (c.machine.device().kind() != DeviceSpec::CPU) return absl::OkStatus();
  const Runtime& runtime = c.loaded.proto.runtime();
  Findings unused;
  for (const auto& [path, set] :
       {std::pair<const char*, bool>("runtime.cuda_graphs", runtime.has_cuda_graphs()),
        {"runtime.nvtx", runtime.has_nvtx()}}) {
    if (!set) continue;
    unused.Add(c.loaded.At(path, "changes_nothing",
                           absl::StrCat(path, " changes nothing on machine '", c.machine.name(),
                                        "', whose devices are CPUs, expected it to be left out"),
                           absl::StrCat("take ", path, " out, or set machine to \"one_gpu\"")));
  }
  findings.Append(unused);
  return unused.ToStatus();
}

// The table that `costs` names, beside the pipeline, in the repository or where the user is.
absl::Status LoadCosts(const std::vector<std::string>& machine_folders, CompiledPipeline& c,
                       Findings& findings) {
  const std::string& name = c.loaded.proto.costs();
  if (name.empty()) return absl::OkStatus();
  std::vector<std::string> folders = {c.loaded.file.substr(0, c.loaded.file.rfind('/'))};
  folders.insert(folders.end(), machine_folders.begin(), machine_folders.end());
  const absl::StatusOr<std::string> path = ResolvePath(name, folders);
  if (!path.ok()) {
    findings.Add(c.loaded.At("costs", "costs", std::string(path.status().message()),
                             "write one with `millrace calibrate`"));
    return findings.ToStatus();
  }
  ASSIGN_OR_RETURN(c.costs, LoadCostTable(*path, findings));
  c.machine = WithMeasured(c.machine, *c.costs);
  return absl::OkStatus();
}

// A status about one setting, as a finding at its place. Of what does not fit, the list of what would help becomes the
// suggestion.
absl::Status Complain(const LoadedPipeline& loaded, absl::string_view path,
                      const std::string& check, const absl::Status& status, Findings& findings) {
  const std::pair<std::string, std::string> said =
      absl::StrSplit(status.message(), absl::MaxSplits("\nwhat would help: ", 1));
  findings.Add(loaded.At(path, check, said.first, said.second));
  return findings.ToStatus();
}

absl::Status ComplainOfPlan(const LoadedPipeline& loaded, const absl::Status& status,
                            Findings& findings) {
  const bool too_large = status.code() == absl::StatusCode::kResourceExhausted;
  const bool own = too_large && loaded.proto.memory().has_device_budget_bytes();
  return Complain(loaded, own ? "memory.device_budget_bytes" : "machine",
                  too_large ? kBudgetCheck : "plan", status, findings);
}

// What the registry says of a model's name and arguments, each at the line that gives it.
absl::Status ComplainOfModel(const LoadedPipeline& loaded, const absl::Status& status,
                             Findings& findings) {
  const Findings said = FindingsOf(status);
  if (said.ok()) return Complain(loaded, "model", "model", status, findings);
  const Model& model = loaded.proto.model();
  for (Finding f : said.list()) {
    std::string path = f.check == "model" ? "model.name" : "model";
    for (int i = 0; i < model.arg_size(); ++i) {
      if (absl::StrContains(f.message, absl::StrCat("argument '", model.arg(i).name(), "'"))) {
        path = absl::StrCat("model.arg[", i, "]");
      }
    }
    if (f.suggestion.empty())
      f.suggestion = absl::StrCat("see `millrace describe model ", model.name(), "`");
    findings.Add(loaded.At(path, f.check, f.message, f.suggestion));
  }
  return findings.ToStatus();
}

ImageNeeds NeedsOf(const TensorSpec& images, int64_t classes) {
  ImageNeeds needs;
  if (images.shape.size() == 4) {
    needs.channels = images.shape[1];
    needs.height = images.shape[2];
    needs.width = images.shape[3];
  }
  needs.classes = classes;
  return needs;
}

ImageNeeds NeedsOf(const ModelSpec& spec) {
  const StageSpec& head = spec.stages.back();
  ImageNeeds needs =
      NeedsOf(spec.batch[0], head.outputs.size() > 1 ? head.outputs[1].shape.back() : 0);
  for (const TensorSpec& t : spec.batch) {
    needs.fields.push_back({t.name, t.dtype, {t.shape.begin() + 1, t.shape.end()}});
  }
  return needs;
}

// Stages that memory.recompute names must be the model's; with `auto` they are chosen here.
absl::Status SettleRecompute(CompiledPipeline& c, const PlanOptions& plan_options,
                             LowerOptions& options, Findings& findings) {
  const Recompute& r = c.loaded.proto.memory().recompute();
  for (const RecomputeMistake& m : CheckRecompute(c.spec, options.recompute)) {
    const std::string path = m.entry >= 0 ? absl::StrCat("memory.recompute.stage[", m.entry, "]")
                             : r.all()    ? "memory.recompute.all"
                                          : "memory.recompute.every";
    findings.Add(c.loaded.At(path, "recompute", m.message, m.suggestion));
  }
  RETURN_IF_ERROR(findings.ToStatus());
  if (!r.auto_()) return absl::OkStatus();
  if (c.machine.device().memory_bytes() == 0) {
    findings.Add(c.loaded.At("memory.recompute.auto", "recompute",
                             absl::StrCat("memory.recompute.auto has no budget to fit: machine '",
                                          c.machine.name(), "' states no device.memory_bytes"),
                             "set memory.device_budget_bytes"));
    return findings.ToStatus();
  }
  absl::StatusOr<RecomputeChoice> choice =
      ChooseRecompute(c.spec, options, c.machine, plan_options);
  if (!choice.ok()) {
    const bool too_large = choice.status().code() == absl::StatusCode::kResourceExhausted;
    return Complain(c.loaded, "memory.recompute.auto", too_large ? kBudgetCheck : "recompute",
                    choice.status(), findings);
  }
  options.recompute.stages = choice->stages;
  c.recompute = *std::move(choice);
  return absl::OkStatus();
}

// memory.offload.auto. What was chosen stands in the settings from then on, in place of `auto`.
absl::Status SettleOffload(CompiledPipeline& c, const PlanOptions& plan_options,
                           LowerOptions& options, Findings& findings) {
  constexpr char kAuto[] = "memory.offload.auto";
  Pipeline& p = c.loaded.proto;
  if (!p.memory().offload().auto_()) return absl::OkStatus();
  if (c.machine.device().memory_bytes() == 0) {
    findings.Add(c.loaded.At(kAuto, "offload",
                             absl::StrCat("memory.offload.auto has no budget to fit: machine '",
                                          c.machine.name(), "' states no device.memory_bytes"),
                             "set memory.device_budget_bytes"));
    return findings.ToStatus();
  }
  const MemoryOpen open = {.recompute = !options.recompute.any(),
                           .buckets = !p.parallel().zero().has_reduce_bucket_bytes(),
                           .prefetch = !p.parallel().zero().has_prefetch_depth()};
  absl::StatusOr<MemoryChoice> choice =
      ChooseMemory(c.spec, options, open, c.machine, plan_options);
  if (!choice.ok()) {
    const bool too_large = choice.status().code() == absl::StatusCode::kResourceExhausted;
    return Complain(c.loaded, kAuto, too_large ? kBudgetCheck : "offload", choice.status(),
                    findings);
  }
  options = choice->options;
  p.mutable_memory()->mutable_offload()->clear_auto_();
  std::vector<std::string> paths = {kAuto};
  for (const std::string& setting : choice->settings) {
    if (!ApplyOverride(&p, setting, &paths, findings)) return findings.ToStatus();
  }
  for (const std::string& path : paths) c.loaded.inferred[path] = Origin::kInferred;
  c.memory = *std::move(choice);
  return absl::OkStatus();
}

// parallel.zero.prefetch_depth, where it means something and is left to the planner. The chosen value stands in the
// settings from then on.
absl::Status SettlePrefetch(CompiledPipeline& c, const PlanOptions& plan_options,
                            LowerOptions& options) {
  Pipeline& p = c.loaded.proto;
  const bool copied = options.offload.parameters != Tier::kDevice;
  const bool open = options.zero_stage == 3 && (options.world_size > 1 || copied) &&
                    options.overlap && !p.parallel().zero().has_prefetch_depth() &&
                    !c.loaded.graph.has_value();
  if (!open) return absl::OkStatus();
  ASSIGN_OR_RETURN(c.prefetch, ChoosePrefetch(c.spec, options, c.machine, plan_options));
  options.prefetch_depth = c.prefetch->depth;
  p.mutable_parallel()->mutable_zero()->set_prefetch_depth(c.prefetch->depth);
  return absl::OkStatus();
}

// memory.offload.staging_buckets, in the same way.
absl::Status SettleStaging(CompiledPipeline& c, const PlanOptions& plan_options,
                           LowerOptions& options) {
  Pipeline& p = c.loaded.proto;
  const bool open = options.offload.optimizer == Tier::kStorage && options.overlap &&
                    !p.memory().offload().has_staging_buckets() && !c.loaded.graph.has_value();
  if (!open) return absl::OkStatus();
  ASSIGN_OR_RETURN(c.staging, ChooseStaging(c.spec, options, c.machine, plan_options));
  options.offload.staging_buckets = c.staging->buckets;
  p.mutable_memory()->mutable_offload()->set_staging_buckets(c.staging->buckets);
  return absl::OkStatus();
}

Attrs AllArgs(const Pipeline& p) {
  Attrs args = ModelArgs(p.model());
  if (p.train().label_smoothing() > 0) args["label_smoothing"] = p.train().label_smoothing();
  return args;
}

// Of operators as they will run, or would: of a device that is not here, or for models that run on the CPU alone, an
// estimate.
absl::StatusOr<ModelSpec> ProbeFor(const CompiledPipeline& c, const ModelDef& model) {
  ProbeOptions options;
  options.threads = c.loaded.proto.runtime().threads_per_rank();
  if (!SeparateMemoryOf(c.machine)) return Probe(model, options);
  if (c.back_end == nullptr) {
    if (model.host_only.empty()) options.target = c10::Device(c10::kCUDA);
    return Probe(model, options);
  }
  if (!c.back_end->own_operators()) return Probe(model, options);
  options.target = c10::Device(c10::kCUDA, 0);
  options.run = true;
  RETURN_IF_ERROR(c.back_end->BeginProbe());
  absl::StatusOr<ModelSpec> spec = Probe(model, options);
  RETURN_IF_ERROR(c.back_end->EndProbe());
  return spec;
}

absl::Status CompileTraining(CompiledPipeline& c, const PlanOptions& plan_options,
                             LowerOptions& options, Findings& findings) {
  const Pipeline& p = c.loaded.proto;
  absl::StatusOr<ModelDef> model =
      BuildModel(p.model().name(), AllArgs(p), {.micro_batch = p.train().micro_batch()});
  if (!model.ok()) return ComplainOfModel(c.loaded, model.status(), findings);
  c.model = *std::move(model);
  SetDType(ModelDType(p), &c.model);
  absl::StatusOr<ModelSpec> spec = ProbeFor(c, c.model);
  if (!spec.ok()) return Complain(c.loaded, "model", "probe", spec.status(), findings);
  c.spec = *std::move(spec);
  c.image_needs = NeedsOf(c.spec);

  RETURN_IF_ERROR(SettleRecompute(c, plan_options, options, findings));
  RETURN_IF_ERROR(SettleOffload(c, plan_options, options, findings));
  RETURN_IF_ERROR(SettleStaging(c, plan_options, options));
  RETURN_IF_ERROR(SettlePrefetch(c, plan_options, options));
  ASSIGN_OR_RETURN(Graph graph, Lower(c.spec, options));
  if (c.loaded.graph.has_value()) {  // the step as it was printed and edited
    Findings misfits;
    CheckEditedStep(*c.loaded.graph, graph, misfits);
    if (!misfits.ok()) {
      findings.Append(misfits);
      return misfits.ToStatus();
    }
    graph = *c.loaded.graph;
  }
  absl::StatusOr<Plan> plan = MakePlan(std::move(graph), c.machine, plan_options);
  if (!plan.ok()) return ComplainOfPlan(c.loaded, plan.status(), findings);
  c.plan = *std::move(plan);
  return absl::OkStatus();
}

absl::Status CompileEvaluation(CompiledPipeline& c, const PlanOptions& plan_options,
                               LowerOptions options, Findings& findings) {
  const Pipeline& p = c.loaded.proto;
  c.eval_batch = p.train().eval_batch() > 0 ? p.train().eval_batch() : p.train().micro_batch();
  absl::StatusOr<ModelDef> model =
      BuildModel(p.model().name(), AllArgs(p), {.micro_batch = c.eval_batch, .evaluate = true});
  if (!model.ok()) return ComplainOfModel(c.loaded, model.status(), findings);
  c.eval_model = *std::move(model);
  SetDType(ModelDType(p), &c.eval_model);
  absl::StatusOr<ModelSpec> spec = ProbeFor(c, c.eval_model);
  if (!spec.ok()) return Complain(c.loaded, "model", "probe", spec.status(), findings);
  c.eval_spec = *std::move(spec);
  options.kind = StepKind::kEvaluate;
  ASSIGN_OR_RETURN(Graph evaluate, Lower(c.eval_spec, options));
  absl::StatusOr<Plan> eval_plan = MakePlan(std::move(evaluate), c.machine, plan_options);
  if (!eval_plan.ok()) {
    const bool too_large = eval_plan.status().code() == absl::StatusCode::kResourceExhausted;
    return Complain(c.loaded, "train.eval_batch", too_large ? kEvalBudgetCheck : "plan",
                    eval_plan.status(), findings);
  }
  c.eval_plan = *std::move(eval_plan);
  return absl::OkStatus();
}

absl::Status CompileModel(CompiledPipeline& c, const CompileOptions& compile, Findings& findings) {
  const Pipeline& p = c.loaded.proto;
  LowerOptions options = FromPipeline(p, c.machine);
  const PlanOptions plan_options = {.name = p.name(),
                                    .world_size = p.parallel().data(),
                                    .check_budget = compile.check_budget,
                                    .costs = c.costs ? &*c.costs : nullptr};
  if (compile.training) {
    RETURN_IF_ERROR(CompileTraining(c, plan_options, options, findings));
  } else {
    options.alone = true;
    options.recompute = {};
    options.offload = {};
  }
  if (!compile.evaluation) return absl::OkStatus();
  RETURN_IF_ERROR(CompileEvaluation(c, plan_options, options, findings));
  if (!compile.training) c.image_needs = NeedsOf(c.eval_spec);
  return absl::OkStatus();
}

// The images that a hand-written step's load_batch delivers.
absl::Status CompileGraph(CompiledPipeline& c, const CompileOptions& compile, Findings& findings) {
  const Pipeline& p = c.loaded.proto;
  const Graph& graph = *c.loaded.graph;
  for (const Node& node : graph.nodes()) {
    if (node.op != "load_batch") continue;
    const Value& images = graph.values()[node.outputs[0]];
    if (images.shape.size() != 4 || images.shape[0] != p.train().micro_batch()) {
      findings.Add(c.loaded.At(
          "train.micro_batch", "batch",
          absl::StrCat("node '", node.name, "' delivers images [",
                       absl::StrJoin(images.shape, ", "), "], expected [train.micro_batch = ",
                       p.train().micro_batch(), ", channels, height, width]"),
          images.shape.size() == 4 ? absl::StrCat("set train.micro_batch to ", images.shape[0])
                                   : "give the images four dimensions"));
      return findings.ToStatus();
    }
    c.image_needs = NeedsOf({images.name, images.dtype, images.shape}, 0);
  }
  const PlanOptions plan_options = {.name = p.name(),
                                    .world_size = p.parallel().data(),
                                    .check_budget = compile.check_budget,
                                    .costs = c.costs ? &*c.costs : nullptr};
  absl::StatusOr<Graph> step = SeparateMemoryOf(c.machine) ? SeparateMemory(graph) : graph;
  if (!step.ok()) return Complain(c.loaded, "graph", "graph", step.status(), findings);
  absl::StatusOr<Plan> plan = MakePlan(*std::move(step), c.machine, plan_options);
  if (!plan.ok()) return ComplainOfPlan(c.loaded, plan.status(), findings);
  c.plan = *std::move(plan);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CompiledPipeline> Compile(LoadedPipeline loaded,
                                         const std::vector<std::string>& machine_folders,
                                         Findings& findings, const CompileOptions& options) {
  CompiledPipeline c;
  c.loaded = std::move(loaded);
  ASSIGN_OR_RETURN(c.machine, FindMachine(c.loaded, machine_folders, findings));
  if (c.loaded.proto.memory().has_device_budget_bytes()) {
    c.machine.mutable_device()->set_memory_bytes(c.loaded.proto.memory().device_budget_bytes());
  }
  RETURN_IF_ERROR(CheckDeviceSettings(c, findings));
  RETURN_IF_ERROR(LoadCosts(machine_folders, c, findings));
  if (options.on_devices) {
    c.back_end = options.back_end;
    if (c.back_end == nullptr) {
      ASSIGN_OR_RETURN(c.back_end,
                       BackEndOf(c.loaded, c.machine, c.loaded.proto.parallel().data(), findings));
    }
  }
  c.has_model = c.loaded.proto.has_model();
  RETURN_IF_ERROR(c.has_model ? CompileModel(c, options, findings)
                              : CompileGraph(c, options, findings));
  return c;
}

absl::Status CheckOnDevices(const CompiledPipeline& c) {
  if (!SeparateMemoryOf(c.machine) || c.back_end != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "machine '", c.machine.name(), "' has devices, and this pipeline was only planned for them"));
}

absl::StatusOr<ModelSpec> ProbeModel(const Pipeline& pipeline, int64_t batch) {
  ASSIGN_OR_RETURN(ModelDef model,
                   BuildModel(pipeline.model().name(), AllArgs(pipeline), {.micro_batch = batch}));
  SetDType(ModelDType(pipeline), &model);
  return Probe(model, {.threads = pipeline.runtime().threads_per_rank()});
}

}  // namespace millrace
