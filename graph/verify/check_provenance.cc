// Where every parameter update comes from: an algebra over the values of the step.
//
//   backward(stage, micro-batch)   one term per gradient slice: (stage, micro-batch) x scale
//   join(slices)                   their terms together
//   accumulate(a, b)               a + b, term by term
//   all_reduce, reduce_scatter     the sum over the ranks, which may be taken once
//   grad_norm, norm_sum            which gradients a norm covers
//   adamw, adam, sgd               uses one gradient; makes the parameter's next version
//
// An update is right when its gradient holds each backward slice of its bucket for each micro-batch
// once, all scaled by 1 / (ranks x micro-batches), summed over the ranks once, and clipped - if at
// all - by a norm of exactly the gradients that the updates use. Forward and backward of the step
// must read the parameters as they were before the update, whole, and what the next step reads must
// be updated everywhere.
//
// Steps written by hand without backward nodes are checked for the parts that they have.
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "graph/verify/check.h"

namespace millrace {
namespace verify_internal {
namespace {

struct Term {
  int count = 0;
  double scale = 1;
};

struct Gradient {
  int bucket = -1;
  int reductions = 0;                         // how often the sum over the group was taken
  std::map<std::pair<int, int>, Term> terms;  // by (stage, micro-batch)
};

struct Norm {
  std::map<ValueId, int> gradients;  // how often each one's squares are in it
  bool gathered = false;             // from all ranks
};

struct Parameter {
  int version = 0;  // updates in this step
};

class Algebra {
 public:
  Algebra(const Context& c, Report* report) : c_(c), g_(c.graph()), report_(report) {}

  void Walk() {
    ranks_ = g_.groups().count("data") > 0 ? g_.group_size("data") : c_.plan->world_size;
    std::set<int64_t> loaded, backward;
    for (const Node& node : g_.nodes()) {
      if (node.op == "load_batch") loaded.insert(Micro(node));
      if (node.op == "backward") backward.insert(Micro(node));
      if (node.op == "backward" || node.op == "forward") {
        last_stage_ = std::max(last_stage_, IntAttr(node, "stage", 0));
      }
      clips_ = clips_ || node.op == "clip_coefficient";
    }
    traced_ = !backward.empty();
    micro_batches_ = static_cast<int64_t>(loaded.empty() ? backward.size() : loaded.size());
    for (size_t v = 0; v < g_.values().size(); ++v) {
      const auto id = static_cast<ValueId>(v);
      if (g_.producer(id) < 0 && Kind(id) == BufferKind::kParameter) parameters_[id] = {};
    }
    for (NodeId n : g_.topological_order()) Visit(n);
    for (const auto& [norm_node, norm] : clip_norms_) CheckClipNorm(norm_node, norm);
    CheckBuckets();
    Facts();
  }

 private:
  static int64_t Micro(const Node& node) { return IntAttr(node, "micro_batch", 0); }
  BufferKind Kind(ValueId v) const { return c_.buffer(c_.value(v).buffer).kind; }
  std::string BucketName(int k) const {
    return k >= 0 && k < static_cast<int>(g_.buckets().size()) ? g_.buckets()[k].name : "no bucket";
  }
  void Say(const Node& node, const std::string& message, const std::string& suggestion = "") {
    report_->Add(-1, node.name, message, suggestion);
  }

  void Visit(NodeId n) {
    const Node& last = c_.node(n);
    if (last.async == AsyncRole::kStart) return;        // looked at with its done
    const Node& node = c_.node(OperationBegin(g_, n));  // has the inputs
    const std::vector<ValueId>& outputs = last.outputs;
    if (node.op == "forward" || node.op == "backward") {
      Stage(node, outputs);
    } else if (node.op == "accumulate" && node.inputs.size() == 2) {
      Accumulate(node, outputs);
    } else if (node.op == "join" || node.op == "all_reduce" || node.op == "reduce_scatter") {
      Reduce(node, outputs);
    } else if (node.op == "all_gather") {
      Gather(node, outputs);
    } else if (node.op == "grad_norm" && !node.inputs.empty() && !outputs.empty()) {
      norms_[outputs[0]].gradients[node.inputs[0]] = 1;
    } else if (node.op == "norm_sum" && !outputs.empty()) {
      for (ValueId in : node.inputs) {
        for (const auto& [gradient, count] : norms_[in].gradients) {
          norms_[outputs[0]].gradients[gradient] += count;
        }
        norms_[outputs[0]].gathered |= norms_[in].gathered;
      }
    } else if (node.op == "clip_coefficient" && !outputs.empty()) {
      coefficients_.insert(outputs[0]);
      for (ValueId in : node.inputs) clip_norms_.push_back({n, norms_[in]});
    } else if (node.op == "adamw" || node.op == "adam" || node.op == "sgd") {
      Update(node, outputs);
    }
  }

  // forward and backward.
  void Stage(const Node& node, const std::vector<ValueId>& outputs) {
    const int64_t stage = IntAttr(node, "stage", 0);
    const bool is_backward = node.op == "backward";
    double scale = FloatAttr(node, "scale", 1);
    bool has_upstream = false;
    std::set<int> read;
    for (ValueId v : node.inputs) {
      const NodeId producer = g_.producer(v);
      const Value& value = c_.value(v);
      if (value.bucket >= 0 && parameters_.count(v) > 0) {
        read.insert(value.bucket);
        ReadParameter(node, v);
        continue;
      }
      if (producer < 0) continue;
      const Node& from = c_.node(producer);
      const bool of_batch =
          from.op == "load_batch" || from.op == "forward" || from.op == "backward";
      if (of_batch && Micro(from) != Micro(node)) {
        Say(node, absl::StrCat("works on micro_batch ", Micro(node), " but reads ", value.name,
                               " of micro_batch ", Micro(from)));
      }
      if (is_backward && Kind(v) == BufferKind::kSaved &&
          (from.op != "forward" || IntAttr(from, "stage", 0) != stage)) {
        Say(node, absl::StrCat("uses what ", from.name, " saved, not its own forward"));
      }
      if (is_backward && from.op == "backward") {
        has_upstream = true;
        scale = upstream_scale_[v];
      }
    }
    for (size_t k = 0; k < g_.buckets().size(); ++k) {
      for (const ParamSlot& slot : g_.buckets()[k].slots) {
        if (slot.stage != stage || read.count(static_cast<int>(k)) > 0) continue;
        Say(node, absl::StrCat("does not read ", g_.buckets()[k].name,
                               ", which holds parameters of its stage"));
        break;
      }
    }
    if (!is_backward) return;
    if (!has_upstream && stage < last_stage_) {
      Say(node, "reads no gradient of its outputs although it is not the last stage");
    }
    for (ValueId v : outputs) {
      const Value& value = c_.value(v);
      if (value.bucket >= 0 && Kind(v) == BufferKind::kGradient) {
        Gradient& gradient = gradients_[v];
        gradient.bucket = value.bucket;
        gradient.terms[{static_cast<int>(stage), static_cast<int>(Micro(node))}] = {1, scale};
        CheckSlice(node, value, stage);
      } else {
        upstream_scale_[v] = scale;
      }
    }
  }

  // The slice covers the stage's slots of the bucket and lies where the bucket's layout says.
  void CheckSlice(const Node& node, const Value& slice, int64_t stage) {
    if (slice.bucket >= static_cast<int>(g_.buckets().size())) return;
    const Bucket& bucket = g_.buckets()[slice.bucket];
    int64_t low = bucket.numel, high = 0;
    for (const ParamSlot& slot : bucket.slots) {
      if (slot.stage != stage) continue;
      low = std::min(low, slot.offset);
      high = std::max(high, slot.offset + slot.numel);
    }
    if (low >= high) {
      Say(node,
          absl::StrCat("writes a gradient of ", bucket.name, ", which has none of its parameters"));
      return;
    }
    const int64_t size = SizeOf(slice.dtype);
    const bool whole_buffer = c_.buffer(slice.buffer).bytes >= bucket.numel * size;
    const int64_t first = whole_buffer ? slice.offset / size : low;
    if (first > low || first + slice.numel() < high) {
      Say(node, absl::StrCat(slice.name, " covers elements [", first, ", ", first + slice.numel(),
                             ") of ", bucket.name, ", but the stage's parameters lie in [", low,
                             ", ", high, ")"));
    }
  }

  void ReadParameter(const Node& node, ValueId v) {
    const Value& value = c_.value(v);
    if (parameters_[v].version > 0) {
      Say(node, absl::StrCat("reads ", value.name, ", which this step has already updated"));
    }
    const int64_t want = value.bucket < static_cast<int>(g_.buckets().size())
                             ? g_.buckets()[value.bucket].numel
                             : value.numel();
    const bool sharded = value.sharding == Sharding::kSharded && g_.group_size(value.group) > 1;
    if (sharded || value.numel() != want) {
      Say(node,
          absl::StrCat("reads ", value.name, " with ", value.numel(), " elements, a shard of ",
                       BucketName(value.bucket), " of ", want),
          "gather it first");
    }
  }

  void Accumulate(const Node& node, const std::vector<ValueId>& outputs) {
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

  std::string Describe(const Gradient& g) const {
    return absl::StrCat(BucketName(g.bucket), " summed ", g.reductions, " times over the ranks");
  }

  void AddTerms(const Gradient& from, Gradient* to) {
    for (const auto& [key, term] : from.terms) {
      Term& mine = to->terms[key];
      if (mine.count == 0) mine.scale = term.scale;
      if (mine.scale != term.scale) mine.scale = std::nan("");
      mine.count += term.count;
    }
  }

  void Reduce(const Node& node, const std::vector<ValueId>& outputs) {
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
    for (ValueId v : outputs) {
      gradients_[v] = sum;
      if (c_.value(v).bucket != sum.bucket) {
        Say(node, absl::StrCat("writes ", c_.value(v).name, " of ", BucketName(c_.value(v).bucket),
                               " from the gradient of ", BucketName(sum.bucket)));
      }
    }
  }

  void Gather(const Node& node, const std::vector<ValueId>& outputs) {
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
        if (gradient != gradients_.end()) gradients_[out] = Gradient(gradient->second);
        if (parameter != parameters_.end()) parameters_[out] = Parameter(parameter->second);
        if (norm != norms_.end()) {
          Norm copy = norm->second;
          copy.gathered = true;
          norms_[out] = copy;
        }
      }
    }
  }

  void Update(const Node& node, const std::vector<ValueId>& outputs) {
    if (node.inputs.size() < 2 || outputs.empty()) return;
    const ValueId param = node.inputs[0], grad = node.inputs[1];
    const auto k = static_cast<int>(IntAttr(node, "bucket", c_.value(param).bucket));
    const int version = ++updates_[k >= 0 ? k : -2 - c_.value(param).buffer];
    if (version > 1) {
      Say(node, absl::StrCat(k >= 0 ? BucketName(k) : c_.value(param).name,
                             " is updated a second time in this step"));
    }
    parameters_[outputs[0]] = {parameters_[param].version + 1};
    if (k >= 0 && c_.value(param).bucket != k) {
      Say(node,
          absl::StrCat("updates ", BucketName(k), " but its parameter is ", c_.value(param).name));
    }
    gradients_used_.insert(grad);
    bool clipped = false;
    for (ValueId v : node.inputs) clipped = clipped || coefficients_.count(v) > 0;
    if (clips_ && !clipped)
      Say(node, "is not clipped although the step computes a clip coefficient");
    if (!traced_) return;
    const auto it = gradients_.find(grad);
    if (it == gradients_.end()) {
      Say(node, absl::StrCat("uses ", c_.value(grad).name, ", which is no gradient of this step"));
    } else {
      CheckGradient(node, k, it->second);
    }
  }

  void CheckGradient(const Node& node, int k, const Gradient& g) {
    const std::string name = BucketName(k);
    if (g.bucket != k) {
      Say(node, absl::StrCat("updates ", name, " with the gradient of ", BucketName(g.bucket)));
      return;
    }
    if (ranks_ > 1 && g.reductions != 1) {
      Say(node,
          g.reductions == 0
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
      } else if (!(std::abs(term.scale - want) <= 1e-9 * want)) {
        Say(node, absl::StrCat(name, ": gradient of micro_batch ", key.second, ", stage ",
                               key.first, " is scaled by ", term.scale, ", expected 1/(", ranks_,
                               " ranks x ", micro_batches_, " micro-batches) = ", want));
      }
    }
  }

  void CheckClipNorm(NodeId n, const Norm& norm) {
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
  void CheckBuckets() {
    if (!traced_) return;
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
                  (parameter.version > 0 && o.buffer == v.buffer && o.offset == v.offset &&
                   o.numel() >= v.numel() && !o.own_shard) ||
                  (parameter.version > 0 && o.buffer == v.buffer && v.own_shard &&
                   (o.own_shard || o.numel() > v.numel()));
      }
      if (renewed) continue;
      report_->Add(-1, "",
                   absl::StrCat(BucketName(v.bucket), ": the next step would read ", v.name,
                                ", of which only a part is updated on this rank"),
                   "gather the updated shards");
    }
  }

  void Facts() {
    if (!traced_) {
      report_->set_facts(absl::StrCat("no backward nodes: ", updates_.size(),
                                      " updates, each parameter once; gradients not traced"));
      return;
    }
    report_->set_facts(absl::StrCat(
        updates_.size(), " buckets updated once, ", Grouped(terms_), " gradient terms over ",
        micro_batches_, " micro-batches and ", ranks_, " ranks counted once, scale 1/",
        ranks_ * micro_batches_, clips_ ? ", clipped by the norm of all of them" : ""));
  }

  const Context& c_;
  const Graph& g_;
  Report* const report_;
  int64_t ranks_ = 1, micro_batches_ = 1, last_stage_ = 0, terms_ = 0;
  bool traced_ = false, clips_ = false;
  std::map<ValueId, Gradient> gradients_;
  std::map<ValueId, double> upstream_scale_;
  std::map<ValueId, Norm> norms_;
  std::map<ValueId, Parameter> parameters_;
  std::set<ValueId> coefficients_, gradients_used_;
  std::vector<std::pair<NodeId, Norm>> clip_norms_;
  std::map<int, int> updates_;  // per bucket; parameters without one under -2 - buffer
};

}  // namespace

void CheckProvenance(const Context& context, Report* report) { Algebra(context, report).Walk(); }

}  // namespace verify_internal
}  // namespace millrace
