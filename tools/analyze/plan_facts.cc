#include "tools/analyze/plan_facts.h"

#include <cctype>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "graph/plan/summary.h"
#include "graph/plan/summary_json.h"
#include "graph/plan/text.h"

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;

// "saved: 5 buffers, largest saved/layers.0/0" -> "saved"; a single buffer -> its pattern.
std::string PeakKind(const std::string& what) {
  return NamePattern(what.substr(0, what.find(": ")));
}

// Golden summaries round times and write them as text.
std::optional<double> Number(const Json& j) {
  if (j.is_number()) return j.get<double>();
  if (!j.is_string()) return std::nullopt;
  const std::string text = j.get<std::string>();
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return end != text.c_str() && *end == '\0' ? std::optional<double>(value) : std::nullopt;
}

// `json` has the fields of `plan --summary`, maybe more.
void AddSummary(const Json& json, PlanFacts* f) {
  const auto count = [&](const char* name, const Json& object, const char* key) {
    if (object.is_object() && object.contains(key) && object[key].is_number_integer())
      f->counts[name] = object[key].get<int64_t>();
  };
  for (const char* field : {"world_size", "nodes", "parameters", "flops_per_step"})
    count(field, json, field);
  if (json.contains("batch")) count("global_batch", json["batch"], "global");
  if (json.contains("peak_bytes") && json["peak_bytes"].is_object()) {
    for (const auto& [tier, bytes] : json["peak_bytes"].items()) {
      if (bytes.is_number_integer()) f->peak_bytes[tier] = bytes.get<int64_t>();
    }
  }
  for (const Json& e : json.value("at_peak", Json::array())) {
    if (!e.is_object()) continue;
    f->at_peak[absl::StrCat(e.value("tier", ""), " ", PeakKind(e.value("what", "")))] +=
        e.value("bytes", int64_t{0});
  }
  for (const Json& c : json.value("collectives", Json::array())) {
    if (!c.is_object()) continue;
    PlanFacts::Collective& into =
        f->collectives[absl::StrCat(c.value("op", ""), " over ", c.value("group", ""))];
    into.count += c.value("count_per_step", int64_t{0});
    into.bytes += c.value("bytes_per_step", int64_t{0});
  }
  if (!json.contains("simulated") || !json["simulated"].is_object()) return;
  const Json& simulated = json["simulated"];
  const std::pair<const char*, const char*> times[] = {
      {"step", "step_seconds"},
      {"exposed communication", "exposed_comm_seconds"},
      {"hidden communication", "hidden_comm_seconds"}};
  for (const auto& [name, field] : times) {
    const auto value = simulated.contains(field) ? Number(simulated[field]) : std::nullopt;
    if (value) f->seconds[name] = *value;
  }
  if (simulated.contains("over_lower_bound")) f->over_bound = Number(simulated["over_lower_bound"]);
}

// PlanDef's rank plans: lanes by name; with several rank plans, by the plan's first rank, too.
void AddLanes(const Json& rank_plans, PlanFacts* f) {
  f->has_nodes = true;
  for (const Json& rp : rank_plans) {
    std::string prefix;
    if (rank_plans.size() > 1 && !rp.value("rank", Json::array()).empty())
      prefix = absl::StrCat("rank ", rp["rank"][0].get<int>(), " ");
    for (const Json& lane : rp.value("lane", Json::array())) {
      std::vector<std::string>& order = f->lanes[prefix + lane.value("name", "")];
      for (const Json& run : lane.value("run", Json::array()))
        order.push_back(run.value("node", ""));
    }
    for (const Json& kind : rp.value("edges", Json::array())) {
      const std::string name = kind.value("kind", "");
      if (name == "lane") continue;
      for (const Json& e : kind.value("edge", Json::array()))
        f->edges.insert({name, e.value("from", ""), e.value("to", "")});
    }
  }
}

}  // namespace

std::string NamePattern(const std::string& name) {
  std::string out;
  for (const char c : name) {
    if (std::isdigit(static_cast<unsigned char>(c)) == 0) {
      out += c;
    } else if (out.empty() || out.back() != '*') {
      out += '*';
    }
  }
  return out;
}

Json FactsJson(const Plan& plan, const SimResult& simulated) {
  Json json = ToJson(Summarise(plan));
  json["simulated"] = {
      {"step_seconds", simulated.step_seconds},
      {"over_lower_bound", simulated.lower_bound_seconds > 0
                               ? simulated.step_seconds / simulated.lower_bound_seconds
                               : 1.0},
      {"exposed_comm_seconds", simulated.exposed_comm_seconds},
      {"hidden_comm_seconds", simulated.hidden_comm_seconds}};
  return json;
}

PlanFacts FactsOf(const Plan& plan, const SimResult& simulated, const std::string& resolved) {
  PlanFacts f;
  f.name = plan.name;
  AddSummary(FactsJson(plan, simulated), &f);
  const absl::StatusOr<std::string> text = PlanJson(plan);
  if (text.ok()) AddLanes(Json::parse(*text)["rank_plan"], &f);
  for (absl::string_view line : absl::StrSplit(resolved, '\n', absl::SkipEmpty())) {
    const size_t comment = line.rfind("  # ");
    const size_t colon = line.find(": ");
    if (colon == absl::string_view::npos) continue;
    f.config[std::string(line.substr(0, colon))] =
        std::string(absl::StripAsciiWhitespace(line.substr(colon + 2, comment - colon - 2)));
  }
  return f;
}

absl::StatusOr<PlanFacts> ReadFacts(const std::string& text, const std::string& file) {
  PlanFacts f;
  try {
    const Json json = Json::parse(text);
    const bool summary = json.is_object() && json.contains("peak_bytes") && json.contains("nodes");
    const bool plan =
        json.is_object() && json.contains("rank_plan") && json["rank_plan"].is_array();
    if (!summary && !plan) {
      return absl::InvalidArgumentError(absl::StrCat(
          file,
          ": is neither a plan nor a summary, expected 'rank_plan' (millrace export --format "
          "json) or 'peak_bytes' and 'nodes' (millrace plan --summary)"));
    }
    f.name = json.value("name", file);
    if (summary) AddSummary(json, &f);
    if (plan && json.contains("summary")) AddSummary(json["summary"], &f);
    if (plan) AddLanes(json["rank_plan"], &f);
  } catch (const Json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": ", e.what()));
  }
  return f;
}

}  // namespace millrace
