// Several runs side by side: what each method (one rank, DDP, ZeRO-1, 2, 3) costs in memory and communication and what
// it gives in samples per second. As text, CSV, JSON and bars.
//
//   std::vector<RunRow> rows = {RowOf(run, analysis), ...};
//   AddScaling(rows);
//   std::cerr << ComparisonText(rows);  ComparisonCsv(rows);  BarChart(ComparisonPanels(rows));
//
// A number that a run's files do not tell is absent, never 0.
#ifndef MILLRACE_TOOLS_ANALYZE_COMPARISON_H_
#define MILLRACE_TOOLS_ANALYZE_COMPARISON_H_

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "graph/ir/graph.h"
#include "tools/analyze/analysis.h"
#include "tools/analyze/bar_chart.h"
#include "tools/analyze/run_folder.h"

namespace millrace {

struct RunRow {
  std::string run, pipeline, model, method, plan_hash;
  std::optional<int64_t> world_size, zero_stage, micro_batch, accumulation, global_batch;
  std::optional<bool> overlap;
  std::array<std::optional<int64_t>, kTiers> peak_bytes;  // of one rank, measured
  std::optional<double> step_seconds, predicted_step_seconds, samples_per_second;
  std::optional<double> scaling;  // samples/s over (world x samples/s of the run on one rank)
  std::optional<double> communication_share, exposed_share, mfu;
  std::optional<double> loss, top1;
};

// `analysis` is null when the run kept no trace.
RunRow RowOf(const RunFiles& run, const Analysis* analysis);

// Fills in `scaling` for runs of the model that some row ran on one rank; the first such row counts.
void AddScaling(std::vector<RunRow>& rows);

std::string ComparisonText(const std::vector<RunRow>& rows);
// RFC 4180: a header, then a line per run; absent is empty.
std::string ComparisonCsv(const std::vector<RunRow>& rows);
nlohmann::ordered_json ComparisonJson(const std::vector<RunRow>& rows);
std::vector<ChartPanel> ComparisonPanels(const std::vector<RunRow>& rows);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_ANALYZE_COMPARISON_H_
