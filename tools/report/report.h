// The report: one HTML file with everything there is to see of a step and, after a run, of its training. It needs
// no network and no other file, so it can be mailed, archived beside the checkpoint and opened in ten years.
//
//   ReportInput input;
//   input.plan = &compiled.plan;
//   input.predicted = &simulated;              // required, like the plan; the rest is shown where it is given
//   input.pipeline = &compiled.loaded;
//   input.certificate = &certificate.plan();
//   input.command = "millrace run digits_vit";
//   RETURN_IF_ERROR(WriteReport("run/report.html", input));
//
// What it shows stands in report_data.h, how it looks in page/. Time: some 10 ms for a few thousand spans. Steps
// and ranks that would make the file too large to handle are left out, and the page says which.
#ifndef MILLRACE_TOOLS_REPORT_REPORT_H_
#define MILLRACE_TOOLS_REPORT_REPORT_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "graph/ir/pipeline_text.h"
#include "graph/plan/plan.h"
#include "graph/sim/simulate.h"
#include "graph/trace/trace.h"
#include "graph/verify/certificate.pb.h"

namespace millrace {

// What only a run knows.
struct MeasuredRun {
  const Trace* trace = nullptr;  // some of its steps; null or without spans: no measured timeline
  std::string metrics;           // the text of metrics.jsonl
  double step_seconds = 0;       // median over all steps
  std::array<int64_t, kTiers> peak_bytes{};  // 0: not measured
  std::string weights_sha256;
  double mfu = 0;
  // Devices: what it takes to put nodes into streams; 0: no devices.
  double issue_seconds_per_node = 0, issue_seconds_per_step = 0;
  int64_t captured_runs = 0;
};

struct ReportInput {
  const Plan* plan = nullptr;
  const SimResult* predicted = nullptr;        // with details
  const LoadedPipeline* pipeline = nullptr;    // the configuration and where each value comes from
  const CertifiedPlan* certificate = nullptr;  // graph/verify/certificate.proto
  const MeasuredRun* measured = nullptr;       // null before a run
  std::string command;                         // as it would be typed again
};

std::string HtmlReport(const ReportInput& input);
absl::Status WriteReport(const std::string& path, const ReportInput& input);

// The page with `title` and `data` (a JSON object) in their places. No text in them can end its element.
std::string HtmlPage(absl::string_view title, absl::string_view data);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_REPORT_REPORT_H_
