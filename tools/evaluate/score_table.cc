#include "tools/evaluate/score_table.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tools/analyze/bar_chart.h"
#include "tools/analyze/line_chart.h"

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;

// JSON has no infinities or NaNs.
Json Number(double v) {
  if (std::isfinite(v)) return v;
  return std::isnan(v) ? "nan" : v > 0 ? "inf" : "-inf";
}

double SamplesPerSecond(const ScoreRow& r) {
  return r.seconds > 0 ? static_cast<double>(r.metrics.samples) / r.seconds : 0;
}

std::string Size(const ScoreRow& r) {
  return r.height == r.width ? absl::StrCat(r.height) : absl::StrCat(r.height, "x", r.width);
}

double Value(const ScoreRow& r, const std::string& metric) {
  if (metric == "loss") return r.metrics.loss;
  for (const auto& [name, value] : r.metrics.values) {
    if (name == metric) return value;
  }
  return NAN;
}

std::string CsvCell(const Json& value) {
  if (!value.is_string()) return value.dump();
  const std::string text = value.get<std::string>();
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

Json RowJson(const ScoreRow& r) {
  Json row = {{"variant", r.variant},
              {"height", r.height},
              {"width", r.width},
              {"parameters", r.parameters},
              {"samples", r.metrics.samples},
              {"loss", Number(r.metrics.loss)}};
  for (const auto& [name, value] : r.metrics.values) row[name] = Number(value);
  row["seconds"] = r.seconds;
  row["samples_per_second"] = SamplesPerSecond(r);
  row["device_bytes"] = r.device_bytes;
  row["pipeline"] = r.pipeline;
  row["weights"] = r.weights;
  return row;
}

}  // namespace

std::string ScoreTableText(const std::vector<ScoreRow>& rows) {
  std::vector<std::vector<std::string>> cells = {
      {"variant", "size", "parameters", "samples", "loss"}};
  for (const auto& value : rows[0].metrics.values) cells[0].push_back(value.first);
  cells[0].insert(cells[0].end(), {"img/s", "device MB"});
  for (const ScoreRow& r : rows) {
    cells.push_back({r.variant, Size(r), absl::StrCat(r.parameters),
                     absl::StrCat(r.metrics.samples), absl::StrFormat("%.4f", r.metrics.loss)});
    for (const auto& value : r.metrics.values) {
      cells.back().push_back(absl::StrFormat("%.4f", value.second));
    }
    cells.back().push_back(absl::StrFormat("%.1f", SamplesPerSecond(r)));
    cells.back().push_back(absl::StrFormat("%.1f", static_cast<double>(r.device_bytes) * 1e-6));
  }
  std::vector<size_t> widths(cells[0].size());
  for (const auto& row : cells) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : cells) {
    std::string line = absl::StrFormat("%-*s", static_cast<int>(widths[0]), row[0]);
    for (size_t i = 1; i < row.size(); ++i) {
      absl::StrAppendFormat(&line, "  %*s", static_cast<int>(widths[i]), row[i]);
    }
    absl::StrAppend(&out, line, "\n");
  }
  return out;
}

std::string ScoreTableCsv(const std::vector<ScoreRow>& rows) {
  std::string out;
  for (const ScoreRow& row : rows) {
    std::vector<std::string> names, cells;
    const Json json = RowJson(row);  // outlives the loop over its items
    for (const auto& [name, value] : json.items()) {
      names.push_back(name);
      cells.push_back(CsvCell(value));
    }
    if (out.empty()) absl::StrAppend(&out, absl::StrJoin(names, ","), "\r\n");
    absl::StrAppend(&out, absl::StrJoin(cells, ","), "\r\n");
  }
  return out;
}

Json ScoreTableJson(const std::vector<ScoreRow>& rows) {
  Json list = Json::array();
  for (const ScoreRow& row : rows) list.push_back(RowJson(row));
  return list;
}

std::string ScoreChart(const std::vector<ScoreRow>& rows, const std::string& metric) {
  const std::string title = absl::StrCat(metric, " on ", rows[0].metrics.samples, " test images");
  const bool one_size = std::all_of(rows.begin(), rows.end(), [&](const ScoreRow& r) {
    return r.height == rows[0].height && r.width == rows[0].width;
  });
  if (one_size) {
    ChartPanel panel{metric, absl::StrCat("at ", Size(rows[0])), 4, {}, {}};
    for (const ScoreRow& r : rows) panel.bars.push_back({r.variant, {Value(r, metric)}});
    return BarChart(title, {panel});
  }
  std::vector<ChartLine> lines;
  for (const ScoreRow& r : rows) {
    const auto line = std::find_if(lines.begin(), lines.end(),
                                   [&](const ChartLine& l) { return l.label == r.variant; });
    ChartLine& own = line != lines.end() ? *line : lines.emplace_back(ChartLine{r.variant, {}});
    own.points.emplace_back(static_cast<double>(r.height), Value(r, metric));
  }
  for (ChartLine& line : lines) std::sort(line.points.begin(), line.points.end());
  return LineChart(title, "image height in pixels", metric, lines);
}

}  // namespace millrace
