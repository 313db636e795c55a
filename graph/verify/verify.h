// The verifier: proves, before anything runs, that a plan cannot race, deadlock, leave its memory
// or count a gradient twice. It trusts nothing that the planner claims: every order, every live
// range and every sum is computed again from the graph, the edges, the lanes and the offsets. A
// plan that passes gets its certificate: the list of checks with the facts that were established.
//
//   VerifyResult result = Verify(plan);
//   if (!result.ok) std::cerr << result.findings.ToText();   // all mistakes at once, node and rank named
//   for (const CheckResult& c : result.checks) std::cout << c.name << ": " << c.facts << "\n";
//
// Checks, in the order in which they are made:
//   structure    ids in range, every node in exactly one lane, starts and dones paired, every rank has a plan
//   types        shapes, dtypes and shardings meet
//   sides        where the devices have memory of their own: the host leaves it alone, the device the host's; copies
//                between the two are to or from pinned memory
//   layout       values within buffers within arenas, aligned, persistent bytes left alone
//   order        data, control and lane order are carried by edges; the comm lanes repeat the issue order
//   race         conflicting accesses to the same bytes are ordered, and every reader sees its value
//   streams      where devices have memory of their own: the same of the orders that their streams keep
//   collectives  per group, the same sequence of (operation, dtype, count, name) on every member; each takes one
//                run of bytes and names all parts of it
//   deadlock     the union over ranks of edges, lane order and group edges has no cycle
//   memory       arenas within budgets, live bytes within arenas
//   credits      a counted resource is never taken beyond its limit
//   provenance   each update uses the mean over all ranks and micro-batches, each counted once, of the step that it
//                declares (no delay by default); what is written to parameters is the same on all ranks
// A check whose premises have already failed is reported as not made (not ok).
//
// Time: about linear in nodes + edges + accesses; 1e5 nodes take less than a second or two.
#ifndef MILLRACE_GRAPH_VERIFY_VERIFY_H_
#define MILLRACE_GRAPH_VERIFY_VERIFY_H_

#include <string>
#include <vector>

#include "graph/base/findings.h"
#include "graph/plan/plan.h"

namespace millrace {

struct CheckResult {
  std::string name;
  bool ok = true;
  std::string facts;  // one line: "1,204 conflicting pairs ordered over 3 lanes"
};

struct VerifyResult {
  bool ok = true;
  std::vector<CheckResult> checks;
  Findings findings;
};

VerifyResult Verify(const Plan& plan);

// The names of all checks, in the order in which they are made.
const std::vector<std::string>& CheckNames();

// Raised with every check that is added or made stricter: certificates of an older verifier prove less.
constexpr int kVerifierVersion = 3;

// The certificate as text: plan, hash, one line per check, then the findings.
std::string ToText(const VerifyResult& result, const Plan& plan);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_VERIFY_H_
