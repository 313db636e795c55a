// What the verbs print: the one JSON object of `--json` (field names are a promise to scripts: add, never rename)
// and the text for people.
#ifndef MILLRACE_TOOLS_CLI_REPORT_H_
#define MILLRACE_TOOLS_CLI_REPORT_H_

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "graph/base/findings.h"
#include "graph/sim/simulate.h"
#include "graph/verify/verify.h"
#include "pipelines/runner/storage_outlook.h"
#include "pipelines/runner/trainer.h"

namespace millrace {

using Json = nlohmann::ordered_json;

Json TiersJson(const std::array<int64_t, kTiers>& bytes);
Json FindingsJson(const Findings& findings);
Json VerifyJson(const VerifyResult& result, const Plan& plan);
Json SimulateJson(const SimResult& result, const Plan& plan);
Json RunJson(const RunResult& result, bool losses);
// Whether the step waits for its drive, for people to stderr and as json["storage_outlook"]; nothing without a storage
// tier.
absl::Status ReportStorage(const CompiledPipeline& pipeline, const Machine& machine, bool quiet,
                           Json* json);
// What a run was: the settings by which runs are compared, and the machine's peak rate.
Json ConfigJson(const CompiledPipeline& pipeline);
// {"error": {"code", "message", "file", "line", "column", "findings"}}
Json ErrorJson(const absl::Status& status, const Findings& findings);

std::string SimulateText(const SimResult& result, const Plan& plan);
std::string RunText(const RunResult& result);

// 2 bad input, 3 failed run, 4 stuck run.
int ExitCode(const absl::Status& status, bool running);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_CLI_REPORT_H_
