// Where every parameter update comes from: an algebra over the values of the step.
//
//   backward(stage, micro-batch)   one term per gradient slice: (stage, micro-batch) x scale
//   recompute(stage, micro-batch)  saves what its forward would have saved, from the same inputs
//   join(slices)                   their terms together
//   accumulate(a, b)               a + b, term by term
//   all_reduce, reduce_scatter     the sum over the ranks, which may be taken once
//   scale(a)                       every term's scale times the factor: loss scaling, and its undoing
//   cast(a)                        the same gradient, parameter or norm in another element type
//   copy(a, ...)                   the same values in another place; of optimizer states, which they are
//   loss_scale                     a factor known only while the step runs: backward's terms carry it, and the
//                                  clip_coefficient that reads it takes it off again, once
//   grad_norm, norm_sum            which gradients a norm covers
//   adamw, adam, sgd               uses one gradient; makes the parameter's next version, of parameters in 16 bits
//                                  as a copy of the master that it updates
//
// An update is right when its gradient holds each backward slice of its bucket for each micro-batch
// once, all scaled by 1 / (ranks x micro-batches), summed over the ranks once, and clipped - if at
// all - by a norm of exactly the gradients that the updates use (so after unscaling, not before). A loss scale that
// it carries must be the one, of the same step, by which its coefficient divides both it and the norm.
// Forward and backward of the step must all read one version of the parameters, whole, and what the
// next step reads must be updated everywhere. The same of optimizer states, wherever they are staged meanwhile
// (provenance_states.cc): the update reads its own bucket's, and each comes back to where it was.
//
// Beside the terms goes, for every value, its origin (provenance_flow.cc): from how many steps ago
// the batches in it come, and over how many neighbouring ranks it is the same. A persistent value
// that is read before the step writes it is what the step before left, one step older: an update
// that uses such a gradient has a delay, which its node must declare (attribute `delay`). And
// whatever is written to a parameter must be the same on all ranks, or their replicas drift apart.
//
// Steps written by hand without backward nodes have no terms; their origins are checked all the same.
#ifndef MILLRACE_GRAPH_VERIFY_PROVENANCE_H_
#define MILLRACE_GRAPH_VERIFY_PROVENANCE_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "graph/verify/check.h"

namespace millrace {
namespace verify_internal {

// What terms carry that hold different loss scales.
constexpr ValueId kMixedScales = -2;
constexpr ValueId kOlderScale = -3;  // what the loss scale was in a step before; it has moved since

struct Factor {
  double scale = 1;
  ValueId loss_scale = -1;  // also multiplied by this value; -1: none
};

struct Term {
  int count = 0;
  Factor factor;
};

struct Gradient {
  int bucket = -1;
  int reductions = 0;                         // how often the sum over the group was taken
  std::map<std::pair<int, int>, Term> terms;  // by (stage, micro-batch)
};

// Of any value.
struct Origin {
  // Bit k: a batch of k steps ago is in it; the highest bit: of ever more steps. Parameters and optimizer
  // states do not count, they come from all steps.
  uint64_t ages = 0;
  // It is the same on each block of so many neighbouring ranks; for a sharded value, the whole of the shards is.
  int same = 1;
  bool operator==(const Origin& o) const { return ages == o.ages && same == o.same; }
};
constexpr uint64_t kEverOlder = uint64_t{1} << 63;

// What a step leaves in a persistent buffer, for the value as which the next step reads it.
struct Carried {
  Origin origin;
  ValueId left = -1;  // the value that the step left there; -1: the one it found
  Gradient gradient;  // of `left`, when it is one
  bool is_gradient = false;
};
using CarriedOver = std::map<ValueId, Carried>;

struct Norm {
  std::map<ValueId, int> gradients;  // how often each one's squares are in it
  bool gathered = false;             // from all ranks
};

struct ParameterVersion {
  int updates = 0;    // in this step
  int64_t delay = 0;  // of the gradient that was used, as declared
};

// Which optimizer state of the step's start a value is, and how often it was updated since.
struct StateVersion {
  ValueId state = -1;
  int updates = 0;
};

class Provenance {
 public:
  // `report` may be null: then nothing is said.
  Provenance(const Context& c, CarriedOver carried, Report* report)
      : c_(c), g_(c.graph()), report_(report), carried_(std::move(carried)) {}

  void Walk();
  // What the next step finds in the buffers that `carried` names, when this one has been walked.
  CarriedOver Left() const;

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
  void Scale(const Node& node, const std::vector<ValueId>& outputs);
  void Cast(const Node& node, ValueId in, const std::vector<ValueId>& outputs);
  void SetGradient(const Node& node, const Gradient& gradient, const std::vector<ValueId>& outputs);
  ValueId Uncast(ValueId v) const;
  std::string Describe(const Gradient& g) const;
  void AddTerms(const Gradient& from, Gradient* to);

  // forward and backward: do they read what belongs to them? In provenance_stages.cc.
  void Stage(const Node& node, const std::vector<ValueId>& outputs);
  void CheckRecompute(const Node& node, int64_t stage);
  void CheckSlice(const Node& node, const Value& slice, int64_t stage);
  void ReadParameter(const Node& node, ValueId v);

  // In provenance_flow.cc.
  bool Moves(ValueId loss_scale) const;
  void Flow(NodeId n);
  void CheckDelay(const Node& node, ValueId gradient);
  bool Sharded(const Value& v) const {
    return v.sharding == Sharding::kSharded && g_.group_size(v.group) > 1;
  }

  // Optimizer states on their way. In provenance_states.cc.
  bool OffDevice(ValueId v) const;
  void FindStates();
  void CopyState(ValueId from, ValueId to);
  void UpdateStates(const Node& node, int k, const std::vector<ValueId>& outputs);
  void CheckStatesCameBack();

  // Is what is updated right? In check_provenance.cc.
  void Update(const Node& node, const std::vector<ValueId>& outputs);
  void CheckGradient(const Node& node, int k, const Gradient& g);
  void CheckUnscaled(const Node& node, const Gradient& g, ValueId coefficient);
  std::string ScaleName(ValueId loss_scale) const;
  ValueId OfKind(const std::vector<ValueId>& ports, BufferKind kind) const;  // the first; -1: none
  void CheckClipNorm(NodeId n, const Norm& norm);
  void CheckBuckets();
  void Facts();

  const Context& c_;
  const Graph& g_;
  Report* const report_;
  const CarriedOver carried_;
  std::vector<Origin> origins_;  // by value
  std::set<int64_t> delays_;     // of the updates
  int64_t ranks_ = 1, micro_batches_ = 1, last_stage_ = 0, terms_ = 0;
  bool traced_ = false, clips_ = false;
  std::map<std::pair<int, int>, double>
      statistic_scales_;  // of backwards that have one, by (stage, micro-batch)
  std::map<ValueId, Gradient> gradients_;
  std::map<ValueId, Factor> upstream_;
  std::set<ValueId> loss_scales_;
  std::map<std::pair<int64_t, int64_t>, const Node*> forwards_;  // by (stage, micro-batch)
  std::set<std::pair<int64_t, int64_t>> recomputed_;
  std::map<ValueId, Norm> norms_;
  std::map<ValueId, ParameterVersion> parameters_;
  std::map<ValueId, StateVersion> states_;
  std::map<ValueId, const Node*> state_updates_;  // by the state as the step finds it
  std::map<int, const Node*> bucket_updates_;
  std::map<ValueId, ValueId> coefficients_;  // and the loss scale by which they divide; -1: none
  std::set<ValueId> gradients_used_;
  std::vector<std::pair<NodeId, Norm>> clip_norms_;
  std::map<ValueId, ValueId> uncast_;  // what a cast value was cast from
  std::map<int, int>
      version_read_;            // per bucket: after how many updates forward and backward read it
  std::map<int, int> updates_;  // per bucket; parameters without one under -2 - buffer
};

// The value that is in the bytes of `found` when the step has ended: the last one written there, when it covers
// exactly them. `found` when none is written; -1 when several share them. `written`: by buffer, every value that a node
// writes there, in the graph's order.
std::vector<std::vector<ValueId>> WrittenByBuffer(const Graph& graph);
ValueId LastIn(const Context& c, const std::vector<std::vector<ValueId>>& written, ValueId found);

// The persistent values that the step reads before it writes them, parameters and optimizer states left out; each as
// if no step had been before.
CarriedOver NothingCarried(const Context& c);

}  // namespace verify_internal
}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_PROVENANCE_H_
