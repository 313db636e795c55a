#include "pipelines/runner/back_end.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "graph/base/findings.h"

namespace millrace {

absl::StatusOr<std::shared_ptr<BackEnd>> BackEndOf(const LoadedPipeline& loaded,
                                                   const Machine& machine, int ranks,
                                                   Findings& findings) {
  const std::string kind = DeviceSpec::Kind_Name(machine.device().kind());
  absl::StatusOr<std::shared_ptr<BackEnd>> opened =
      OpenBackEnd(kind, {.ranks = ranks, .nvtx = loaded.proto.runtime().nvtx()});
  if (opened.ok()) return opened;
  const std::pair<std::string, std::string> said =
      absl::StrSplit(opened.status().message(), absl::MaxSplits("; help: ", 1));
  findings.Add(
      loaded.At("machine", "back_end",
                absl::StrCat("machine '", machine.name(), "' has ", kind, " devices; ", said.first),
                said.second));
  return findings.ToStatus();
}

}  // namespace millrace
