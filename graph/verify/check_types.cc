// Shapes, dtypes and shardings meet at every node, by the contracts of the operations.
#include "absl/strings/str_cat.h"
#include "graph/ir/type_check.h"
#include "graph/verify/check.h"

namespace millrace {
namespace verify_internal {

void CheckTypeRules(const Context& context, Report* report) {
  const Findings findings = CheckTypes(context.graph());
  for (const Finding& f : findings.list()) report->Add(f.rank, f.node, f.message, f.suggestion);
  report->set_facts(absl::StrCat(Grouped(context.num_nodes()), " nodes over ",
                                 Grouped(static_cast<int64_t>(context.graph().values().size())),
                                 " values agree in shape, dtype and sharding"));
}

}  // namespace verify_internal
}  // namespace millrace
