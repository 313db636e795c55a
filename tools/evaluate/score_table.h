// What `millrace evaluate` shows: a row for each variant and image size, as text, CSV, JSON and a picture - a line per
// variant over the sizes, or bars where there is one size.
//
//   std::cout << ScoreTableText(rows);
//   WriteFileAtomically("ladder.svg", ScoreChart(rows, "dice"));
#ifndef MILLRACE_TOOLS_EVALUATE_SCORE_TABLE_H_
#define MILLRACE_TOOLS_EVALUATE_SCORE_TABLE_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipelines/runner/metrics.h"

namespace millrace {

struct ScoreRow {
  std::string variant, pipeline, weights;
  int64_t height = 0, width = 0;  // of the first scale
  int64_t parameters = 0;
  EvalMetrics metrics;  // the same names in every row
  double seconds = 0;   // of the pass
  int64_t device_bytes = 0;
};

std::string ScoreTableText(const std::vector<ScoreRow>& rows);
std::string ScoreTableCsv(const std::vector<ScoreRow>& rows);
nlohmann::ordered_json ScoreTableJson(const std::vector<ScoreRow>& rows);
// `metric`: "loss" or a name in the rows.
std::string ScoreChart(const std::vector<ScoreRow>& rows, const std::string& metric);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_EVALUATE_SCORE_TABLE_H_
