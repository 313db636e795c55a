// What the checks of the verifier share. Internal to graph/verify: users include verify.h.
//
// Each check is one function in a file of its own. It reads the plan through `Context`, writes
// findings through `Report` (which gathers all of them, but prints at most kMaxFindings of one
// check) and leaves one line of facts.
#ifndef MILLRACE_GRAPH_VERIFY_CHECK_H_
#define MILLRACE_GRAPH_VERIFY_CHECK_H_

#include <memory>
#include <string>
#include <vector>

#include "graph/plan/plan.h"
#include "graph/verify/happens_before.h"
#include "graph/verify/verify.h"

namespace millrace {
namespace verify_internal {

constexpr int kMaxFindings = 40;  // of one check; the rest is counted

// A rank plan with what the checks derive from it.
struct RankView {
  const RankPlan* plan = nullptr;
  int rank = -1;                        // the first rank that follows it: named in findings
  std::vector<int32_t> lane, position;  // per node; -1 when in no lane
  std::unique_ptr<HappensBefore> before;

  bool has(NodeId n) const { return lane[n] >= 0; }
};

struct Context {
  const Plan* plan = nullptr;
  std::vector<RankView> ranks;  // one per rank plan
  bool acyclic = true;          // every rank's own edges are free of cycles

  const Graph& graph() const { return plan->graph; }
  const Node& node(NodeId n) const { return plan->graph.nodes()[n]; }
  const Value& value(ValueId v) const { return plan->graph.values()[v]; }
  const Buffer& buffer(BufferId b) const { return plan->graph.buffers()[b]; }
  int num_nodes() const { return static_cast<int>(plan->graph.nodes().size()); }
};

class Report {
 public:
  Report(std::string check, VerifyResult* result) : check_(std::move(check)), result_(result) {}
  // Writes the check's line into the result.
  ~Report();

  void Add(int rank, const std::string& node, std::string message, std::string suggestion = "");
  void set_facts(std::string facts) { facts_ = std::move(facts); }
  bool ok() const { return count_ == 0; }

 private:
  std::string check_, facts_;
  VerifyResult* result_;
  int count_ = 0;
};

// The node at which the operation of `n` begins to use its values, and the one after which it no
// longer does: start and done of an asynchronous pair, the node itself otherwise.
inline NodeId OperationBegin(const Graph& graph, NodeId n) {
  const Node& node = graph.nodes()[n];
  return node.async == AsyncRole::kDone && node.partner >= 0 ? node.partner : n;
}
inline NodeId OperationEnd(const Graph& graph, NodeId n) {
  const Node& node = graph.nodes()[n];
  return node.async == AsyncRole::kStart && node.partner >= 0 ? node.partner : n;
}

// "1,204"
std::string Grouped(int64_t number);
// "12.3 MB" beside exact numbers would hide a byte: always "12,345,678 B".
std::string Bytes(int64_t bytes);

// Returns false when ids or sizes are so wrong that other checks cannot read the plan; fills
// context.
bool CheckStructure(const Plan& plan, Context* context, Report* report);
void CheckTypeRules(const Context& context, Report* report);
// False when offsets are missing.
bool CheckLayout(const Context& context, Report* report);
void CheckOrder(const Context& context, Report* report);
void CheckRaces(const Context& context, Report* report);
void CheckStreams(const Context& context, Report* report);
void CheckCollectives(const Context& context, Report* report);
void CheckDeadlock(const Context& context, Report* report);
void CheckMemory(const Context& context, Report* report);
void CheckCredits(const Context& context, Report* report);
void CheckMemorySides(const Context& context, Report* report);
void CheckProvenance(const Context& context, Report* report);

}  // namespace verify_internal
}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_CHECK_H_
