// A model's lowered step may be printed (`millrace export --what graph --format text`), edited, and put into the
// pipeline beside its model. This says whether such a step still is one of that model: the same parameters in the same
// places - evaluation and checkpoints count on them - and every forward and backward of a stage with the shapes that
// the stage's kernel reads and writes. Order, communication, buffers and lanes are the editor's business; the
// verifier proves them.
//
//   ASSIGN_OR_RETURN(Graph lowered, Lower(spec, options));
//   CheckEditedStep(edited, lowered, findings);
#ifndef MILLRACE_GRAPH_LOWER_EDITED_STEP_H_
#define MILLRACE_GRAPH_LOWER_EDITED_STEP_H_

#include "graph/base/findings.h"
#include "graph/ir/graph.h"

namespace millrace {

// Findings carry the place in the text of what is wrong.
void CheckEditedStep(const Graph& edited, const Graph& lowered, Findings& findings);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_EDITED_STEP_H_
