#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/verify/provenance.h"

namespace millrace {
namespace verify_internal {

void Provenance::Walk() {
  ranks_ = g_.groups().count("data") > 0 ? g_.group_size("data") : c_.plan->world_size;
  std::set<int64_t> loaded, backward;
  for (const Node& node : g_.nodes()) {
    if (node.op == "load_batch") loaded.insert(Micro(node));
    if (node.op == "backward") backward.insert(Micro(node));
    if (node.op == "backward" || node.op == "forward") {
      last_stage_ = std::max(last_stage_, IntAttr(node, "stage", 0));
    }
    clips_ = clips_ || node.op == "clip_coefficient";
    if (node.op == "update_loss_scale" && node.inputs.size() > 1) {
      loss_scales_.insert(node.inputs[1]);
      loss_scales_.insert(node.outputs.begin(), node.outputs.end());
    }
  }
  traced_ = !backward.empty();
  micro_batches_ = static_cast<int64_t>(loaded.empty() ? backward.size() : loaded.size());
  for (size_t v = 0; v < g_.values().size(); ++v) {
    const auto id = static_cast<ValueId>(v);
    if (g_.producer(id) < 0 && Kind(id) == BufferKind::kParameter) parameters_[id] = {};
  }
  FindStates();
  origins_.assign(g_.values().size(), {0, c_.plan->world_size});
  for (const auto& [v, carried] : carried_) {
    origins_[v] = carried.origin;
    if (carried.is_gradient) gradients_[v] = carried.gradient;
  }
  for (NodeId n : g_.topological_order()) {
    Flow(n);
    Visit(n);
  }
  for (const auto& [norm_node, norm] : clip_norms_) CheckClipNorm(norm_node, norm);
  CheckBuckets();
  CheckStatesCameBack();
  Facts();
}

std::string Provenance::BucketName(int k) const {
  return k >= 0 && k < static_cast<int>(g_.buckets().size()) ? g_.buckets()[k].name : "no bucket";
}

void Provenance::Say(const Node& node, const std::string& message, const std::string& suggestion) {
  if (report_ != nullptr) report_->Add(-1, node.name, message, suggestion);
}

void Provenance::Update(const Node& node, const std::vector<ValueId>& outputs) {
  if (node.inputs.size() < 2 || outputs.empty()) return;
  // The parameter itself is written, as the first output or, in 16 bits, as a copy of what is updated; or, where the
  // states are on the host, a master or staged bytes, which copies take to the parameter.
  const ValueId param = node.inputs[0], grad = node.inputs[1];
  const ValueId parameter = OfKind(outputs, BufferKind::kParameter);
  const bool elsewhere = Kind(outputs[0]) == BufferKind::kOptimizerState &&
                         c_.buffer(c_.value(outputs[0]).buffer).tier != Tier::kDevice;
  const ValueId written = parameter < 0 && elsewhere ? outputs[0] : parameter;
  const auto k = static_cast<int>(IntAttr(node, "bucket", c_.value(param).bucket));
  const int version = ++updates_[k >= 0 ? k : -2 - c_.value(param).buffer];
  if (written < 0) {
    Say(node, absl::StrCat("updates ", c_.value(param).name, " and writes no parameter"));
    return;
  }
  if (version > 1) {
    Say(node, absl::StrCat(k >= 0 ? BucketName(k) : c_.value(param).name,
                           " is updated a second time in this step"));
  }
  const int64_t delay = IntAttr(node, "delay", 0);
  const bool copies = written != outputs[0];
  parameters_[written] = {copies ? version : parameters_[param].updates + 1, delay};
  CheckDelay(node, grad);
  if (k >= 0 && c_.value(param).bucket != k) {
    Say(node,
        absl::StrCat("updates ", BucketName(k), " but its parameter is ", c_.value(param).name));
  }
  if (copies && k >= 0 && c_.value(written).bucket != k) {
    Say(node, absl::StrCat("copies ", BucketName(k), " to ", c_.value(written).name, " of ",
                           BucketName(c_.value(written).bucket)));
  }
  UpdateStates(node, k, outputs);
  gradients_used_.insert(Uncast(grad));
  ValueId coefficient = -1;
  for (ValueId v : node.inputs) {
    if (coefficients_.count(v) > 0) coefficient = v;
  }
  if (clips_ && coefficient < 0)
    Say(node, "is not clipped although the step computes a clip coefficient");
  if (!traced_) return;
  const auto it = gradients_.find(grad);
  if (it == gradients_.end()) {
    Say(node, absl::StrCat("uses ", c_.value(grad).name, ", which is no gradient of this step"));
  } else {
    CheckGradient(node, k, it->second);
    CheckUnscaled(node, it->second, coefficient);
  }
}

ValueId Provenance::OfKind(const std::vector<ValueId>& ports, BufferKind kind) const {
  for (ValueId v : ports) {
    if (Kind(v) == kind) return v;
  }
  return -1;
}

std::string Provenance::ScaleName(ValueId loss_scale) const {
  if (loss_scale == kMixedScales) return "several loss scales";
  if (loss_scale == kOlderScale) return "the loss scale of a step before";
  return loss_scale < 0 ? "no loss scale" : c_.value(loss_scale).name;
}

// What the gradient carries, its coefficient takes off: the same value of the loss scale, once.
void Provenance::CheckUnscaled(const Node& node, const Gradient& g, ValueId coefficient) {
  const auto it = coefficients_.find(coefficient);
  const ValueId divides_by = it == coefficients_.end() ? -1 : it->second;
  for (const auto& [key, term] : g.terms) {
    if (term.factor.loss_scale == divides_by) continue;
    Say(node,
        absl::StrCat("its gradient carries ", ScaleName(term.factor.loss_scale),
                     ", its coefficient divides by ", ScaleName(divides_by)),
        "let the last stage's backward and clip_coefficient read the same loss scale");
    return;
  }
}

void Provenance::CheckGradient(const Node& node, int k, const Gradient& g) {
  const std::string name = BucketName(k);
  if (g.bucket != k) {
    Say(node, absl::StrCat("updates ", name, " with the gradient of ", BucketName(g.bucket)));
    return;
  }
  if (ranks_ > 1 && g.reductions != 1) {
    Say(node, g.reductions == 0
                  ? absl::StrCat(name, ": the gradient is this rank's alone, not summed over the ",
                                 ranks_, " ranks")
                  : absl::StrCat(name, ": the gradient is summed ", g.reductions,
                                 " times over the ranks"));
  }
  const double want = 1.0 / (static_cast<double>(ranks_) * static_cast<double>(micro_batches_));
  std::set<int> stages;
  if (k >= 0 && k < static_cast<int>(g_.buckets().size())) {
    for (const ParamSlot& slot : g_.buckets()[k].slots) stages.insert(slot.stage);
  }
  for (int stage : stages) {
    for (int m = 0; m < micro_batches_; ++m) {
      const auto it = g.terms.find({stage, m});
      const int count = it == g.terms.end() ? 0 : it->second.count;
      ++terms_;
      if (count == 1) continue;
      Say(node, absl::StrCat(name, ": gradient of micro_batch ", m, ", stage ", stage,
                             count == 0   ? " is missing"
                             : count == 2 ? " is counted twice"
                                          : absl::StrCat(" is counted ", count, " times")));
    }
  }
  for (const auto& [key, term] : g.terms) {
    if (stages.count(key.first) == 0 || key.second >= micro_batches_) {
      Say(node, absl::StrCat(name, ": holds a gradient of stage ", key.first, ", micro_batch ",
                             key.second, " that does not belong there"));
    } else if (!(std::abs(term.factor.scale - want) <= 1e-9 * want)) {
      Say(node, absl::StrCat(name, ": gradient of micro_batch ", key.second, ", stage ", key.first,
                             " is scaled by ", term.factor.scale, ", expected 1/(", ranks_,
                             " ranks x ", micro_batches_, " micro-batches) = ", want));
    }
    const auto statistic = statistic_scales_.find(key);
    if (statistic != statistic_scales_.end() &&
        !(std::abs(statistic->second - want) <= 1e-9 * want)) {
      Say(node, absl::StrCat(name, ": running statistics of micro_batch ", key.second, ", stage ",
                             key.first, " are scaled by ", statistic->second, ", expected ", want));
    }
  }
}

void Provenance::CheckClipNorm(NodeId n, const Norm& norm) {
  const Node& node = c_.node(n);
  for (ValueId used : gradients_used_) {
    const auto it = norm.gradients.find(used);
    const int count = it == norm.gradients.end() ? 0 : it->second;
    if (count != 1) {
      Say(node, absl::StrCat("its norm holds ", c_.value(used).name, ", which an update uses, ",
                             count, " times, expected once"));
    }
  }
  for (const auto& [gradient, count] : norm.gradients) {
    const Value& value = c_.value(gradient);
    if (gradients_used_.count(gradient) == 0) {
      Say(node, absl::StrCat("its norm holds ", value.name, ", which no update uses"));
    }
    const bool sharded = value.sharding == Sharding::kSharded && g_.group_size(value.group) > 1;
    if (sharded != norm.gathered && ranks_ > 1) {
      Say(node, absl::StrCat("its norm of ", value.name,
                             sharded ? " is of this rank's shard only"
                                     : " is gathered although every rank has all of it"));
    }
  }
}

// Each bucket is updated, and all that the next step reads of it is new.
void Provenance::CheckBuckets() {
  if (!traced_ || report_ == nullptr) return;
  for (size_t k = 0; k < g_.buckets().size(); ++k) {
    if (!g_.buckets()[k].slots.empty() && updates_.count(static_cast<int>(k)) == 0) {
      report_->Add(-1, "", absl::StrCat(g_.buckets()[k].name, " is never updated"));
    }
  }
  for (size_t i = 0; i < g_.values().size(); ++i) {
    const auto id = static_cast<ValueId>(i);
    const Value& v = c_.value(id);
    if (g_.producer(id) >= 0 || Kind(id) != BufferKind::kParameter || v.bucket < 0) continue;
    bool renewed = updates_.count(v.bucket) == 0;  // then said above
    for (const auto& [other, parameter] : parameters_) {
      const Value& o = c_.value(other);
      renewed = renewed ||
                (parameter.updates > 0 && o.buffer == v.buffer && o.offset == v.offset &&
                 o.numel() >= v.numel() && !o.own_shard) ||
                (parameter.updates > 0 && o.buffer == v.buffer && v.own_shard &&
                 (o.own_shard || o.numel() > v.numel()));
    }
    if (renewed) continue;
    report_->Add(-1, "",
                 absl::StrCat(BucketName(v.bucket), ": the next step would read ", v.name,
                              ", of which only a part is updated on this rank"),
                 "gather the updated shards");
  }
}

void Provenance::Facts() {
  if (report_ == nullptr) return;
  std::string common = c_.plan->world_size > 1 ? ", the same on all ranks" : "";
  if (!delays_.empty()) {
    absl::StrAppend(&common, "; every update uses gradients of delay ",
                    absl::StrJoin(delays_, " or "));
  }
  if (!traced_) {
    report_->set_facts(absl::StrCat("no backward nodes: ", updates_.size(),
                                    " updates, each parameter once", common));
    return;
  }
  report_->set_facts(absl::StrCat(updates_.size(), " buckets updated once, ", Grouped(terms_),
                                  " gradient terms over ", micro_batches_, " micro-batches and ",
                                  ranks_, " ranks counted once, scale 1/", ranks_ * micro_batches_,
                                  loss_scales_.empty() ? "" : ", the loss scale taken off once",
                                  clips_ ? ", clipped by the norm of all of them" : "", common));
}

// What one step leaves is what the next one finds. Walked in silence until that changes nothing; each round either
// reaches one step further back or is the last.
void CheckProvenance(const Context& context, Report* report) {
  CarriedOver carried = NothingCarried(context);
  for (int round = 0; round < 70 && !carried.empty(); ++round) {
    Provenance step(context, carried, nullptr);
    step.Walk();
    CarriedOver left = step.Left();
    bool same = true;
    for (const auto& [v, c] : left)
      same = same && c.origin == carried[v].origin && c.left == carried[v].left;
    carried = std::move(left);
    if (same) break;
  }
  Provenance(context, std::move(carried), report).Walk();
}

}  // namespace verify_internal
}  // namespace millrace
