#include "tools/analyze/comparison.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;

// The field at the end of `path`, when it is there and has the type.
const Json* Find(const Json& json, std::initializer_list<const char*> path) {
  const Json* at = &json;
  for (const char* key : path) {
    if (!at->is_object() || !at->contains(key)) return nullptr;
    at = &(*at)[key];
  }
  return at;
}
std::optional<double> Number(const Json& json, std::initializer_list<const char*> path) {
  const Json* at = Find(json, path);
  return at != nullptr && at->is_number() ? std::optional<double>(at->get<double>()) : std::nullopt;
}
std::optional<int64_t> Integer(const Json& json, std::initializer_list<const char*> path) {
  const Json* at = Find(json, path);
  return at != nullptr && at->is_number_integer() ? std::optional<int64_t>(at->get<int64_t>())
                                                  : std::nullopt;
}
std::string Text(const Json& json, std::initializer_list<const char*> path) {
  const Json* at = Find(json, path);
  return at != nullptr && at->is_string() ? at->get<std::string>() : "";
}

std::string Method(std::optional<int64_t> world, std::optional<int64_t> stage) {
  if (world == 1) return "1 rank";
  if (!stage) return "";
  return *stage == 0 ? "DDP" : absl::StrCat("ZeRO-", *stage);
}

// All columns with their names and values, for CSV and JSON.
std::vector<std::pair<std::string, Json>> Columns(const RunRow& r) {
  const auto cell = [](const auto& v) { return v ? Json(*v) : Json(nullptr); };
  std::vector<std::pair<std::string, Json>> columns = {{"run", r.run},
                                                       {"pipeline", r.pipeline},
                                                       {"model", r.model},
                                                       {"method", r.method},
                                                       {"world_size", cell(r.world_size)},
                                                       {"zero_stage", cell(r.zero_stage)},
                                                       {"micro_batch", cell(r.micro_batch)},
                                                       {"accumulation", cell(r.accumulation)},
                                                       {"global_batch", cell(r.global_batch)},
                                                       {"overlap_enabled", cell(r.overlap)}};
  for (int t = 0; t < kTiers; ++t)
    columns.push_back(
        {absl::StrCat("peak_", Name(static_cast<Tier>(t)), "_bytes"), cell(r.peak_bytes[t])});
  const std::vector<std::pair<std::string, Json>> rest = {
      {"step_seconds", cell(r.step_seconds)},
      {"predicted_step_seconds", cell(r.predicted_step_seconds)},
      {"samples_per_second", cell(r.samples_per_second)},
      {"scaling_efficiency", cell(r.scaling)},
      {"communication_share", cell(r.communication_share)},
      {"exposed_share", cell(r.exposed_share)},
      {"mfu", cell(r.mfu)},
      {"loss", cell(r.loss)},
      {"top1", cell(r.top1)},
      {"plan_hash", r.plan_hash}};
  columns.insert(columns.end(), rest.begin(), rest.end());
  return columns;
}

std::string CsvCell(const Json& value) {
  if (value.is_null()) return "";
  if (!value.is_string()) return value.dump();
  const std::string text = value.get<std::string>();
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string Cell(const std::optional<double>& v, double scale, int digits, const char* unit = "") {
  return v ? absl::StrFormat("%.*f%s", digits, *v * scale, unit) : "-";
}

}  // namespace

RunRow RowOf(const RunFiles& run, const Analysis* analysis) {
  RunRow row;
  const Json& j = run.result;
  row.run = run.name;
  row.pipeline = Text(j, {"config", "pipeline"});
  row.model = Text(j, {"config", "model"});
  row.plan_hash = Text(j, {"config", "plan_hash"});
  row.world_size = Integer(j, {"config", "world_size"});
  row.zero_stage = Integer(j, {"config", "zero_stage"});
  row.micro_batch = Integer(j, {"config", "micro_batch"});
  row.accumulation = Integer(j, {"config", "accumulation"});
  row.global_batch = Integer(j, {"config", "global_batch"});
  const Json* overlap = Find(j, {"config", "overlap"});
  if (overlap != nullptr && overlap->is_boolean()) row.overlap = overlap->get<bool>();
  for (int t = 0; t < kTiers; ++t) {
    const std::string tier(Name(static_cast<Tier>(t)));
    row.peak_bytes[t] = Integer(j, {"peak_bytes_measured", tier.c_str()});
  }
  row.step_seconds = Number(j, {"step_seconds_median"});
  row.predicted_step_seconds = Number(j, {"simulated_step_seconds"});
  row.samples_per_second = Number(j, {"samples_per_second"});
  row.loss = Number(j, {"loss_last"});
  if (!row.loss && !run.losses.empty()) row.loss = run.losses.back();
  row.top1 = Number(j, {"metrics", "top1"});
  if (analysis != nullptr) {
    if (!row.world_size) row.world_size = analysis->world_size;
    if (row.pipeline.empty()) row.pipeline = analysis->title;
    if (row.plan_hash.empty()) row.plan_hash = analysis->plan_hash;
    if (!row.step_seconds && analysis->step_median_ns > 0)
      row.step_seconds = static_cast<double>(analysis->step_median_ns) * 1e-9;
    if (!row.predicted_step_seconds && analysis->predicted_step_ns >= 0)
      row.predicted_step_seconds = static_cast<double>(analysis->predicted_step_ns) * 1e-9;
    row.communication_share = analysis->CommunicationShare();
    row.exposed_share = analysis->ExposedShare();
    if (analysis->peak_flops_per_second > 0) row.mfu = analysis->share_of_peak;
  }
  row.method = Method(row.world_size, row.zero_stage);
  return row;
}

void AddScaling(std::vector<RunRow>& rows) {
  for (RunRow& row : rows) {
    const auto alone = std::find_if(rows.begin(), rows.end(), [&](const RunRow& r) {
      return r.world_size == 1 && r.model == row.model && r.samples_per_second.value_or(0) > 0;
    });
    if (alone == rows.end() || !row.samples_per_second || !row.world_size) continue;
    row.scaling = *row.samples_per_second /
                  (static_cast<double>(*row.world_size) * *alone->samples_per_second);
  }
}

std::string ComparisonText(const std::vector<RunRow>& rows) {
  size_t width = 4;
  for (const RunRow& r : rows) width = std::max(width, r.run.size());
  std::vector<int> tiers = {0};  // others only where somebody uses them
  for (int t = 1; t < kTiers; ++t) {
    for (const RunRow& r : rows) {
      if (r.peak_bytes[t].value_or(0) > 0 && tiers.back() != t) tiers.push_back(t);
    }
  }
  std::string out = absl::StrFormat("%-*s  %-7s %5s %6s", width, "run", "method", "ranks", "batch");
  for (int t : tiers)
    absl::StrAppendFormat(&out, " %11s", absl::StrCat(Name(static_cast<Tier>(t)), " MB"));
  absl::StrAppendFormat(&out, " %10s %10s %8s %7s %8s %6s %8s %6s\n", "step ms", "samples/s",
                        "scaling", "comm.", "exposed", "MFU", "loss", "top-1");
  for (const RunRow& r : rows) {
    absl::StrAppendFormat(&out, "%-*s  %-7s %5s %6s", width, r.run,
                          r.method.empty() ? "-" : r.method,
                          r.world_size ? absl::StrCat(*r.world_size) : "-",
                          r.global_batch ? absl::StrCat(*r.global_batch) : "-");
    for (int t : tiers) {
      const std::optional<int64_t>& bytes = r.peak_bytes[t];
      absl::StrAppendFormat(
          &out, " %11s", bytes ? absl::StrFormat("%.2f", static_cast<double>(*bytes) * 1e-6) : "-");
    }
    absl::StrAppendFormat(&out, " %10s %10s %8s %7s %8s %6s %8s %6s\n",
                          Cell(r.step_seconds, 1e3, 3), Cell(r.samples_per_second, 1, 1),
                          Cell(r.scaling, 100, 1, "%"), Cell(r.communication_share, 100, 1, "%"),
                          Cell(r.exposed_share, 100, 1, "%"), Cell(r.mfu, 100, 1, "%"),
                          Cell(r.loss, 1, 4), Cell(r.top1, 1, 4));
  }
  return out;
}

std::string ComparisonCsv(const std::vector<RunRow>& rows) {
  std::string out;
  for (const RunRow& row : rows.empty() ? std::vector<RunRow>{RunRow()} : rows) {
    const auto columns = Columns(row);
    std::vector<std::string> names, cells;
    for (const auto& [name, value] : columns) {
      names.push_back(name);
      cells.push_back(CsvCell(value));
    }
    if (out.empty()) absl::StrAppend(&out, absl::StrJoin(names, ","), "\r\n");
    if (!rows.empty()) absl::StrAppend(&out, absl::StrJoin(cells, ","), "\r\n");
  }
  return out;
}

Json ComparisonJson(const std::vector<RunRow>& rows) {
  Json list = Json::array();
  for (const RunRow& row : rows) {
    Json object = Json::object();
    for (auto& [name, value] : Columns(row)) object[name] = value;
    list.push_back(std::move(object));
  }
  return list;
}

std::vector<ChartPanel> ComparisonPanels(const std::vector<RunRow>& rows) {
  ChartPanel memory{"Peak device memory per rank", "MB", 2, {}, {}};
  ChartPanel speed{"Throughput", "samples/s", 1, {}, {}};
  ChartPanel talk{
      "Communication, share of the step", "%", 1, {}, {"exposed", "hidden under compute"}};
  ChartPanel scaling{"Scaling efficiency, against one rank", "%", 1, {}, {}};
  for (const RunRow& r : rows) {
    const std::string label =
        r.method.empty() || r.method == r.run ? r.run : absl::StrCat(r.run, " · ", r.method);
    if (r.peak_bytes[0])
      memory.bars.push_back({label, {static_cast<double>(*r.peak_bytes[0]) * 1e-6}});
    if (r.samples_per_second) speed.bars.push_back({label, {*r.samples_per_second}});
    if (r.communication_share && r.exposed_share) {
      talk.bars.push_back(
          {label, {100 * *r.exposed_share, 100 * (*r.communication_share - *r.exposed_share)}});
    }
    if (r.scaling) scaling.bars.push_back({label, {100 * *r.scaling}});
  }
  std::vector<ChartPanel> panels;
  for (ChartPanel* p : {&memory, &speed, &talk, &scaling}) {
    if (!p->bars.empty()) panels.push_back(std::move(*p));
  }
  return panels;
}

}  // namespace millrace
