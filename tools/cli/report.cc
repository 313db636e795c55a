#include "tools/cli/report.h"

#include <algorithm>
#include <cmath>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "graph/base/status.h"
#include "graph/plan/summary.h"

namespace millrace {
namespace {

// JSON has no infinities or NaNs: a diverged run still prints valid JSON.
Json Number(double v) { return std::isfinite(v) ? Json(v) : Json(nullptr); }

std::string LaneName(const Plan& plan, int rank, int lane) {
  return plan.ForRank(rank).lanes[lane].name;
}

std::string Seconds(double s) {
  if (s >= 1) return absl::StrFormat("%.3f s", s);
  if (s >= 1e-3) return absl::StrFormat("%.3f ms", s * 1e3);
  return absl::StrFormat("%.1f us", s * 1e6);
}

}  // namespace

Json TiersJson(const std::array<int64_t, kTiers>& bytes) {
  Json json = Json::object();
  for (int t = 0; t < kTiers; ++t) json[std::string(Name(static_cast<Tier>(t)))] = bytes[t];
  return json;
}

Json FindingsJson(const Findings& findings) {
  Json list = Json::array();
  for (const Finding& f : findings.list()) {
    list.push_back({{"check", f.check},
                    {"node", f.node},
                    {"rank", f.rank},
                    {"message", f.message},
                    {"suggestion", f.suggestion},
                    {"file", f.file},
                    {"line", f.line},
                    {"column", f.column}});
  }
  return list;
}

Json VerifyJson(const VerifyResult& result, const Plan& plan) {
  Json checks = Json::array();
  for (const CheckResult& c : result.checks)
    checks.push_back({{"name", c.name}, {"ok", c.ok}, {"facts", c.facts}});
  return {{"ok", result.ok},
          {"plan_hash", plan.hash},
          {"checks", checks},
          {"findings", FindingsJson(result.findings)}};
}

Json SimulateJson(const SimResult& r, const Plan& plan) {
  Json path = Json::array();
  for (const CriticalNode& n : r.critical_path) {
    path.push_back({{"node", plan.graph.nodes()[n.node].name},
                    {"rank", n.rank},
                    {"lane", LaneName(plan, n.rank, n.lane)},
                    {"seconds", n.seconds}});
  }
  Json lanes = Json::array();
  for (const LaneUse& l : r.lanes) {
    lanes.push_back({{"rank", l.rank},
                     {"lane", LaneName(plan, l.rank, l.lane)},
                     {"busy", l.busy},
                     {"wait_data", l.wait_data},
                     {"wait_lane", l.wait_lane},
                     {"wait_credit", l.wait_credit},
                     {"after_last", l.after_last}});
  }
  return {{"step_seconds", r.step_seconds},
          {"lower_bound_seconds", r.lower_bound_seconds},
          {"critical_path", path},
          {"lanes", lanes},
          {"exposed_comm_seconds", r.exposed_comm_seconds},
          {"hidden_comm_seconds", r.hidden_comm_seconds},
          {"peak_bytes", TiersJson(r.peak_bytes)},
          {"events", r.events},
          {"seconds_to_simulate", r.seconds_to_simulate},
          {"plan_hash", plan.hash}};
}

Json RunJson(const RunResult& r, bool losses) {
  Json json = {{"steps", r.steps},
               {"last_step", r.last_step},
               {"step_seconds_median", r.step_seconds_median},
               {"samples_per_second", r.samples_per_second},
               {"loss_first", Number(r.loss_first)},
               {"loss_last", Number(r.loss_last)}};
  if (losses) {
    json["losses"] = Json::array();
    for (double v : r.losses) json["losses"].push_back(Number(v));
  }
  json["metrics"] = Json::object();
  if (r.evaluated) {
    json["metrics"] = {{"loss", Number(r.metrics.loss)}};
    for (const auto& [name, value] : r.metrics.values) json["metrics"][name] = Number(value);
    json["metrics"]["samples"] = r.metrics.samples;
    json["metrics"]["step"] = r.metrics.step;
  }
  if (!r.bad_samples.empty()) {
    Json files = Json::array();
    for (const BadSample& bad : r.bad_samples) {
      files.push_back({{"file", bad.name}, {"message", bad.message}});
    }
    json["bad_files"] = {{"count", r.bad_samples.size()}, {"files", std::move(files)}};
  }
  json["skipped_steps"] = r.skipped_steps;  // without a loss scale none
  json["weights_sha256"] = r.weights_sha256;
  json["peak_bytes_predicted"] = TiersJson(r.peak_bytes_predicted);
  json["peak_bytes_measured"] = TiersJson(r.peak_bytes_measured);
  json["unplanned_allocations"] = r.unplanned_allocations;
  json["peak_rss_bytes"] = r.peak_rss_bytes;
  json["rss_outside_plan_bytes"] = r.rss_outside_plan_bytes;
  json["rss_constant_bytes"] = kRssOutsidePlanBytes;
  json["mfu"] = r.mfu;
  if (r.issue_seconds_per_node > 0) {
    json["issue"] = {{"seconds_per_node", r.issue_seconds_per_node},
                     {"seconds_per_step", r.issue_seconds_per_step},
                     {"captured_runs", r.captured_runs}};
  }
  json["seconds_to_first_step"] = r.seconds_to_first_step;
  json["simulated_step_seconds"] = r.simulated_step_seconds;
  json["interrupted"] = r.interrupted;
  if (r.loss_scale > 0) json["loss_scale"] = r.loss_scale;
  if (!r.storage.empty()) json["storage"] = r.storage;
  if (r.nonfinite_loss_step > 0) json["nonfinite_loss_step"] = r.nonfinite_loss_step;
  json["outputs"] = {{"metrics", r.metrics_path},
                     {"trace", r.trace_path},
                     {"report", ""},
                     {"checkpoint", r.checkpoint_path}};
  return json;
}

absl::Status ReportStorage(const CompiledPipeline& pipeline, const Machine& machine, bool quiet,
                           Json* json) {
  ASSIGN_OR_RETURN(const std::optional<StorageOutlook> outlook, ForeseeStorage(pipeline, machine));
  if (!outlook) return absl::OkStatus();
  if (!quiet) std::cerr << ToText(*outlook) << "\n";
  (*json)["storage_outlook"] = {{"bound", outlook->bound},
                                {"step_seconds", outlook->step_seconds},
                                {"storage_seconds", outlook->storage_seconds},
                                {"twice_as_fast_seconds", outlook->twice_as_fast_seconds}};
  if (outlook->ratio > 0) {
    (*json)["storage_outlook"]["ratio"] = outlook->ratio;
    (*json)["storage_outlook"]["ratio_seconds"] = outlook->ratio_seconds;
  }
  return absl::OkStatus();
}

Json ConfigJson(const CompiledPipeline& c) {
  const Pipeline& p = c.loaded.proto;
  return {{"pipeline", p.name()},
          {"model", c.has_model ? p.model().name() : ""},
          {"parameters", Summarise(c.plan).parameters},
          {"zero_stage", p.parallel().zero().stage()},
          {"world_size", c.plan.world_size},
          {"micro_batch", p.train().micro_batch()},
          {"accumulation", p.train().accumulation()},
          {"global_batch", p.train().global_batch()},
          {"overlap", p.runtime().overlap()},
          {"machine", c.plan.machine},
          {"peak_flops_per_second", c.machine.device().flops_per_second()},
          {"plan_hash", c.plan.hash}};
}

Json ErrorJson(const absl::Status& status, const Findings& findings) {
  Json error = {{"code", absl::StatusCodeToString(status.code())},
                {"message", std::string(status.message())}};
  error["file"] = findings.ok() ? "" : findings.list()[0].file;
  error["line"] = findings.ok() ? 0 : findings.list()[0].line;
  error["column"] = findings.ok() ? 0 : findings.list()[0].column;
  error["findings"] = FindingsJson(findings);
  return {{"error", error}};
}

std::string SimulateText(const SimResult& r, const Plan& plan) {
  std::string out = absl::StrFormat(
      "predicted step %s, lower bound %s (ratio %.3f); communication: %s hidden, %s exposed\n",
      Seconds(r.step_seconds), Seconds(r.lower_bound_seconds),
      r.lower_bound_seconds > 0 ? r.step_seconds / r.lower_bound_seconds : 1.0,
      Seconds(r.hidden_comm_seconds), Seconds(r.exposed_comm_seconds));
  for (const LaneUse& l : r.lanes) {
    if (l.rank > 1) break;  // the others look alike
    absl::StrAppend(
        &out,
        absl::StrFormat(
            "  rank %d %-12s busy %-11s waits: data %s, lane %s, credit %s; after its last %s\n",
            l.rank, LaneName(plan, l.rank, l.lane), Seconds(l.busy), Seconds(l.wait_data),
            Seconds(l.wait_lane), Seconds(l.wait_credit), Seconds(l.after_last)));
  }
  std::vector<CriticalNode> longest = r.critical_path;
  std::sort(longest.begin(), longest.end(),
            [](const CriticalNode& a, const CriticalNode& b) { return a.seconds > b.seconds; });
  if (longest.size() > 5) longest.resize(5);
  absl::StrAppend(&out, "  critical path: ", r.critical_path.size(), " nodes, the longest:");
  for (const CriticalNode& n : longest) {
    absl::StrAppend(&out, " ", plan.graph.nodes()[n.node].name, " (", Seconds(n.seconds), ")");
  }
  return out + "\n";
}

std::string RunText(const RunResult& r) {
  std::string out = absl::StrFormat(
      "%s after step %d: loss %.4f -> %.4f, %.1f images/s, step %s (predicted %s)\n",
      r.interrupted ? "stopped" : "done", r.last_step, r.loss_first, r.loss_last,
      r.samples_per_second, Seconds(r.step_seconds_median), Seconds(r.simulated_step_seconds));
  if (r.evaluated) {
    absl::StrAppend(&out, absl::StrCat("evaluation on ", r.metrics.samples,
                                       " samples: ", ToText(r.metrics), "\n"));
  }
  if (!r.bad_samples.empty()) {
    absl::StrAppend(&out, r.bad_samples.size(), " bad files left out:\n");
    for (const BadSample& bad : r.bad_samples) absl::StrAppend(&out, "  ", bad.message, "\n");
  }
  if (r.loss_scale > 0) {
    absl::StrAppend(
        &out, absl::StrFormat("loss scale %g, %d steps skipped\n", r.loss_scale, r.skipped_steps));
  }
  for (int t = 0; t < kTiers; ++t) {
    if (t > 0 && r.peak_bytes_predicted[t] == 0) continue;
    absl::StrAppend(&out,
                    absl::StrFormat("%s memory per rank: planned %d bytes, measured %d bytes\n",
                                    Name(static_cast<Tier>(t)), r.peak_bytes_predicted[t],
                                    r.peak_bytes_measured[t]));
  }
  absl::StrAppend(&out, absl::StrFormat("MFU %.1f %%", 100 * r.mfu));
  if (r.issue_seconds_per_node > 0) {
    absl::StrAppend(&out, ", issue ", Seconds(r.issue_seconds_per_node), " per node, ",
                    Seconds(r.issue_seconds_per_step), " per step, ", r.captured_runs,
                    " captured runs");
  }
  out += "\n";
  absl::StrAppend(&out,
                  absl::StrFormat("process: %.1f MB resident at most, %.1f MB beside the plan\n",
                                  static_cast<double>(r.peak_rss_bytes) / 1e6,
                                  static_cast<double>(r.rss_outside_plan_bytes) / 1e6));
  absl::StrAppend(&out, "weights sha256 ", r.weights_sha256, "\n");
  if (!r.storage.empty()) absl::StrAppend(&out, "storage     ", r.storage, "\n");
  absl::StrAppend(&out, "metrics     ", r.metrics_path, "\n");
  if (!r.trace_path.empty()) absl::StrAppend(&out, "trace       ", r.trace_path, "\n");
  if (!r.checkpoint_path.empty()) absl::StrAppend(&out, "checkpoint  ", r.checkpoint_path, "\n");
  return out;
}

int ExitCode(const absl::Status& status, bool running) {
  if (status.ok()) return 0;
  if (!running) return 2;
  return status.code() == absl::StatusCode::kDeadlineExceeded ? 4 : 3;
}

}  // namespace millrace
