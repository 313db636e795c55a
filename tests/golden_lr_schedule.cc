// Kind lr_schedule: traces of the learning rate against DeepSpeed's scheduler classes, in double.
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "pipelines/runner/lr_schedule.h"
#include "tests/golden_case.h"

namespace millrace {
namespace {

// `kw` are the constructor's arguments there, with the defaults it has there.
absl::StatusOr<LrScheduleOptions> Options(const std::string& name, double base_lr,
                                          const nlohmann::json& kw) {
  using Kind = LrScheduleOptions::Kind;
  GoldenArgs args(kw);
  LrScheduleOptions o;
  o.warmup_steps = args.Get<int64_t>("warmup_num_steps", 1000);
  const auto type = args.Get<std::string>("warmup_type", "log");
  if (type != "log" && type != "linear") {
    return absl::UnimplementedError(absl::StrCat("no warm-up '", type, "'"));
  }
  o.linear_warmup = type == "linear";
  if (name == "WarmupCosineLR") {
    o.kind = Kind::kWarmupCosine;
    o.lr = base_lr;
    o.warmup_min_ratio = args.Get("warmup_min_ratio", 0.0);
    o.cos_min_ratio = args.Get("cos_min_ratio", 1e-4);
    o.total_steps = args.Get<int64_t>("total_num_steps", 0);
  } else if (name == "WarmupLR" || name == "WarmupDecayLR") {
    o.kind = name == "WarmupLR" ? Kind::kWarmup : Kind::kWarmupDecay;
    o.lr = args.Get("warmup_max_lr", 1e-3);
    o.warmup_min_lr = args.Get("warmup_min_lr", 0.0);
    if (o.kind == Kind::kWarmupDecay) o.total_steps = args.Get<int64_t>("total_num_steps", 0);
  } else {
    return absl::UnimplementedError(absl::StrCat("no schedule '", name, "'"));
  }
  RETURN_IF_ERROR(args.AllWereRead());
  return o;
}

absl::StatusOr<GoldenOutputs> RunLrSchedules(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const auto schedules = args.Get("schedules", nlohmann::json::array());
  RETURN_IF_ERROR(args.AllWereRead());
  GoldenOutputs outputs;
  for (size_t j = 0; j < schedules.size(); ++j) {
    GoldenArgs one(schedules[j]);
    const auto name = one.Get<std::string>("name", "");
    const auto base_lr = one.Get("base_lr", 0.0);
    const auto kw = one.Get("kw", nlohmann::json::object());
    const auto steps = one.Get<int64_t>("steps", 0);
    RETURN_IF_ERROR(one.AllWereRead());
    ASSIGN_OR_RETURN(const LrScheduleOptions options, Options(name, base_lr, kw));
    const LrScheduler schedule(options);
    std::vector<double> trace;
    for (int64_t k = 0; k <= steps; ++k) trace.push_back(schedule.AfterSteps(k));
    outputs.Put(absl::StrCat("output.lr_", j), {steps + 1}, trace.data());
  }
  return outputs;
}

REGISTER_GOLDEN_KIND(lr_schedule, RunLrSchedules);

}  // namespace
}  // namespace millrace
