// What the outputs of each node are, in terms of gradients, norms and parameters.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "graph/verify/provenance.h"

namespace millrace {
namespace verify_internal {

void Provenance::Visit(NodeId n) {
  const Node& last = c_.node(n);
  if (last.async == AsyncRole::kStart) return;        // looked at with its done
  const Node& node = c_.node(OperationBegin(g_, n));  // has the inputs
  const std::vector<ValueId>& outputs = last.outputs;
  if (node.op == "forward" || node.op == "recompute" || node.op == "backward") {
    Stage(node, outputs);
  } else if (node.op == "accumulate" && node.inputs.size() == 2) {
    Accumulate(node, outputs);
  } else if (node.op == "join" || node.op == "all_reduce" || node.op == "reduce_scatter") {
    Reduce(node, outputs);
  } else if (node.op == "scale" && !node.inputs.empty()) {
    Scale(node, outputs);
  } else if (node.op == "cast" && !node.inputs.empty()) {
    Cast(node, node.inputs[0], outputs);
  } else if (node.op == "copy") {
    for (size_t i = 0; i < std::min(node.inputs.size(), outputs.size()); ++i) {
      Cast(node, node.inputs[i], {outputs[i]});
      CopyState(node.inputs[i], outputs[i]);
    }
  } else if (node.op == "all_gather") {
    Gather(node, outputs);
  } else if (node.op == "grad_norm" && !node.inputs.empty() && !outputs.empty()) {
    norms_[outputs[0]].gradients[Uncast(node.inputs[0])] = 1;
  } else if (node.op == "norm_sum" && !outputs.empty()) {
    for (ValueId in : node.inputs) {
      for (const auto& [gradient, count] : norms_[in].gradients) {
        norms_[outputs[0]].gradients[gradient] += count;
      }
      norms_[outputs[0]].gathered |= norms_[in].gathered;
    }
  } else if (node.op == "clip_coefficient" && !node.inputs.empty() && !outputs.empty()) {
    coefficients_[outputs[0]] = node.inputs.size() > 1 ? node.inputs[1] : -1;
    clip_norms_.push_back({n, norms_[node.inputs[0]]});
  } else if (node.op == "adamw" || node.op == "adam" || node.op == "sgd") {
    Update(node, outputs);
  }
}

void Provenance::Accumulate(const Node& node, const std::vector<ValueId>& outputs) {
  const auto a = gradients_.find(node.inputs[0]), b = gradients_.find(node.inputs[1]);
  if (a == gradients_.end() && b == gradients_.end()) return;  // not a gradient
  if (a == gradients_.end() || b == gradients_.end()) {
    const ValueId odd = node.inputs[a == gradients_.end() ? 0 : 1];
    if (traced_) Say(node, absl::StrCat("adds ", c_.value(odd).name, ", which is no gradient"));
    return;
  }
  Gradient sum = a->second;
  if (sum.reductions != b->second.reductions || sum.bucket != b->second.bucket) {
    Say(node, absl::StrCat("adds gradients of different kinds: ", Describe(sum), " and ",
                           Describe(b->second)));
  }
  AddTerms(b->second, &sum);
  for (ValueId v : outputs) gradients_[v] = sum;
}

// Every term, and what a backward hands on, times the factor.
void Provenance::Scale(const Node& node, const std::vector<ValueId>& outputs) {
  const double factor = FloatAttr(node, "factor", 1);
  if (const auto it = gradients_.find(node.inputs[0]); it != gradients_.end()) {
    Gradient scaled = it->second;
    for (auto& [key, term] : scaled.terms) term.factor.scale *= factor;
    SetGradient(node, scaled, outputs);
  }
  if (const auto it = upstream_.find(node.inputs[0]); it != upstream_.end()) {
    const Factor scaled = {it->second.scale * factor, it->second.loss_scale};
    for (ValueId v : outputs) upstream_[v] = scaled;
  }
}

// Another element type or another place, the same meaning.
void Provenance::Cast(const Node& node, ValueId in, const std::vector<ValueId>& outputs) {
  for (ValueId v : outputs) {
    uncast_[v] = Uncast(in);
    if (upstream_.count(in) > 0) upstream_[v] = Factor(upstream_[in]);
    if (parameters_.count(in) > 0) {
      parameters_[v] = ParameterVersion(parameters_[in]);
      if (c_.value(v).bucket != c_.value(in).bucket) {
        Say(node,
            absl::StrCat("writes ", c_.value(v).name, " of ", BucketName(c_.value(v).bucket),
                         " from ", c_.value(in).name, " of ", BucketName(c_.value(in).bucket)));
      }
    }
    if (const auto it = norms_.find(in); it != norms_.end()) norms_[v] = Norm(it->second);
    if (coefficients_.count(in) > 0) coefficients_[v] = ValueId{coefficients_[in]};
  }
  if (const auto it = gradients_.find(in); it != gradients_.end()) {
    SetGradient(node, Gradient(it->second), outputs);
  }
}

ValueId Provenance::Uncast(ValueId v) const {
  const auto it = uncast_.find(v);
  return it == uncast_.end() ? v : it->second;
}

void Provenance::SetGradient(const Node& node, const Gradient& gradient,
                             const std::vector<ValueId>& outputs) {
  for (ValueId v : outputs) {
    gradients_[v] = gradient;
    if (c_.value(v).bucket == gradient.bucket) continue;
    Say(node, absl::StrCat("writes ", c_.value(v).name, " of ", BucketName(c_.value(v).bucket),
                           " from the gradient of ", BucketName(gradient.bucket)));
  }
}

std::string Provenance::Describe(const Gradient& g) const {
  return absl::StrCat(BucketName(g.bucket), " summed ", g.reductions, " times over the ranks");
}

void Provenance::AddTerms(const Gradient& from, Gradient* to) {
  for (const auto& [key, term] : from.terms) {
    Term& mine = to->terms[key];
    if (mine.count == 0) mine.factor = term.factor;
    if (mine.factor.scale != term.factor.scale) mine.factor.scale = std::nan("");
    if (mine.factor.loss_scale != term.factor.loss_scale) mine.factor.loss_scale = kMixedScales;
    mine.count += term.count;
  }
}

void Provenance::Reduce(const Node& node, const std::vector<ValueId>& outputs) {
  Gradient sum;
  bool any = false;
  for (ValueId v : node.inputs) {
    const auto it = gradients_.find(v);
    if (it == gradients_.end()) continue;
    const Gradient& in = it->second;
    if (!any) sum = {in.bucket, in.reductions, {}};
    any = true;
    if (in.bucket != sum.bucket || in.reductions != sum.reductions) {
      Say(node, absl::StrCat("puts ", Describe(sum), " together with ", Describe(in)));
    }
    AddTerms(in, &sum);
  }
  if (!any) return;
  if (node.is_collective && g_.group_size(node.collective.group) > 1) ++sum.reductions;
  SetGradient(node, sum, outputs);
}

void Provenance::Gather(const Node& node, const std::vector<ValueId>& outputs) {
  for (ValueId in : node.inputs) {
    const auto gradient = gradients_.find(in);
    const auto norm = norms_.find(in);
    const auto parameter = parameters_.find(in);
    for (ValueId out : outputs) {
      if (parameter != parameters_.end() && c_.value(in).bucket != c_.value(out).bucket) {
        Say(node,
            absl::StrCat("gathers ", c_.value(in).name, " of ", BucketName(c_.value(in).bucket),
                         " into ", c_.value(out).name, " of ", BucketName(c_.value(out).bucket)));
      }
      if (gradient != gradients_.end()) gradients_[out] = gradient->second;
      if (parameter != parameters_.end()) parameters_[out] = parameter->second;
      if (norm != norms_.end()) {
        Norm copy = norm->second;
        copy.gathered = true;
        norms_[out] = copy;
      }
    }
  }
}

}  // namespace verify_internal
}  // namespace millrace
