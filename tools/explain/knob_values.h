// Values next to a setting's own, worth a look: what `millrace explain KNOB` plans the pipeline with.
//
//   NeighbourValues(*doc, "2")    // parallel.zero.stage at 2: {"0", "1", "2", "3"}
//   NeighbourValues(*doc, "262144")    // a number of bytes: a quarter, itself, four times
//
// The current value is always among them, in its place. Empty for texts and lists, which have no neighbours. Which
// values are allowed is not known here: the pipeline's checks say so.
#ifndef MILLRACE_TOOLS_EXPLAIN_KNOB_VALUES_H_
#define MILLRACE_TOOLS_EXPLAIN_KNOB_VALUES_H_

#include <string>
#include <vector>

#include "tools/explain/field_docs.h"

namespace millrace {

std::vector<std::string> NeighbourValues(const FieldDoc& doc, const std::string& current);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_EXPLAIN_KNOB_VALUES_H_
