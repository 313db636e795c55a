#include "pipelines/runner/back_end.h"

#include "absl/strings/str_cat.h"
#include "graph/base/findings.h"
#include "graph/lower/options.h"

namespace millrace {

absl::Status CheckBackEnd(const LoadedPipeline& loaded, const Machine& machine) {
  if (!SeparateMemoryOf(machine)) return absl::OkStatus();
  Findings findings;
  findings.Add(
      loaded.At("machine", "back_end",
                absl::StrCat("machine '", machine.name(),
                             "' has CUDA devices; this binary was built without them"),
                "build with --config=cuda, or take another machine by --set machine=cpu_2_cores"));
  return findings.ToStatus();
}

}  // namespace millrace
