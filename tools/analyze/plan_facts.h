// What two plans are compared by, wherever it comes from: a pipeline just planned, a plan that was exported
// (`export --format json`), or a summary in pipelines/golden (`plan --summary`), of this version or of another. A file
// that does not tell something leaves it absent.
//
//   PlanFacts a = FactsOf(compiled.plan, simulated, ResolvedText(compiled.loaded));
//   ASSIGN_OR_RETURN(PlanFacts b, ReadFacts(text, "pipelines/golden/digits_vit.txt"));
#ifndef MILLRACE_TOOLS_ANALYZE_PLAN_FACTS_H_
#define MILLRACE_TOOLS_ANALYZE_PLAN_FACTS_H_

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/plan/plan.h"
#include "graph/sim/simulate.h"

namespace millrace {

struct PlanFacts {
  std::string name;
  struct Collective {
    int64_t count = 0, bytes = 0;  // of one rank and step, sent
  };
  std::map<std::string, int64_t>
      counts;  // "world_size", "nodes", "parameters", "global_batch", ...
  std::map<std::string, int64_t> peak_bytes;      // by tier, of one rank
  std::map<std::string, int64_t> at_peak;         // "device act: ..." without numbers -> bytes
  std::map<std::string, Collective> collectives;  // "all_gather over data"
  std::map<std::string, double> seconds;          // simulated: "step", "exposed communication", ...
  std::optional<double> over_bound;               // simulated step / lower bound
  bool has_nodes = false;                         // of a summary, only their number is known
  std::map<std::string, std::vector<std::string>> lanes;  // lane -> its nodes in order
  // kind, from, to; without "lane", which the orders tell. Of several rank plans the union.
  std::set<std::tuple<std::string, std::string, std::string>> edges;
  std::map<std::string, std::string> config;  // setting -> value; empty when not known
};

// `resolved`: one "path: value  # origin" a line (pipeline_text.h).
PlanFacts FactsOf(const Plan& plan, const SimResult& simulated, const std::string& resolved);

// kInvalidArgument when the text is neither of the two kinds of JSON.
absl::StatusOr<PlanFacts> ReadFacts(const std::string& text, const std::string& file);

// The part of an exported plan's JSON that tells what the graph knows: counts, collectives, prediction.
nlohmann::ordered_json FactsJson(const Plan& plan, const SimResult& simulated);

// Numbers as "*": what nodes and buffers of one kind have in common. "layers.3/0" -> "layers.*/*".
std::string NamePattern(const std::string& name);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_ANALYZE_PLAN_FACTS_H_
