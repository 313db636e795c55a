// Where every parameter update comes from: an algebra over the values of the step.
//
//   backward(stage, micro-batch)   one term per gradient slice: (stage, micro-batch) x scale
//   recompute(stage, micro-batch)  saves what its forward would have saved, from the same inputs
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
#ifndef MILLRACE_GRAPH_VERIFY_PROVENANCE_H_
#define MILLRACE_GRAPH_VERIFY_PROVENANCE_H_

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "graph/verify/check.h"

namespace millrace {
namespace verify_internal {

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

struct ParameterVersion {
  int updates = 0;  // in this step
};

class Provenance {
 public:
  Provenance(const Context& c, Report* report) : c_(c), g_(c.graph()), report_(report) {}

  void Walk();

 private:
  static int64_t Micro(const Node& node) { return IntAttr(node, "micro_batch", 0); }
  BufferKind Kind(ValueId v) const { return c_.buffer(c_.value(v).buffer).kind; }
  std::string BucketName(int k) const;
  void Say(const Node& node, const std::string& message, const std::string& suggestion = "");

  // One node: works out what its outputs are. In provenance_values.cc.
  void Visit(NodeId n);
  void Accumulate(const Node& node, const std::vector<ValueId>& outputs);
  void Reduce(const Node& node, const std::vector<ValueId>& outputs);
  void Gather(const Node& node, const std::vector<ValueId>& outputs);
  std::string Describe(const Gradient& g) const;
  void AddTerms(const Gradient& from, Gradient* to);

  // forward and backward: do they read what belongs to them? In provenance_stages.cc.
  void Stage(const Node& node, const std::vector<ValueId>& outputs);
  void CheckRecompute(const Node& node, int64_t stage);
  void CheckSlice(const Node& node, const Value& slice, int64_t stage);
  void ReadParameter(const Node& node, ValueId v);

  // Is what is updated right? In check_provenance.cc.
  void Update(const Node& node, const std::vector<ValueId>& outputs);
  void CheckGradient(const Node& node, int k, const Gradient& g);
  void CheckClipNorm(NodeId n, const Norm& norm);
  void CheckBuckets();
  void Facts();

  const Context& c_;
  const Graph& g_;
  Report* const report_;
  int64_t ranks_ = 1, micro_batches_ = 1, last_stage_ = 0, terms_ = 0;
  bool traced_ = false, clips_ = false;
  std::map<ValueId, Gradient> gradients_;
  std::map<ValueId, double> upstream_scale_;
  std::map<std::pair<int64_t, int64_t>, const Node*> forwards_;  // by (stage, micro-batch)
  std::set<std::pair<int64_t, int64_t>> recomputed_;
  std::map<ValueId, Norm> norms_;
  std::map<ValueId, ParameterVersion> parameters_;
  std::set<ValueId> coefficients_, gradients_used_;
  std::vector<std::pair<NodeId, Norm>> clip_norms_;
  std::map<int, int> updates_;  // per bucket; parameters without one under -2 - buffer
};

}  // namespace verify_internal
}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_PROVENANCE_H_
