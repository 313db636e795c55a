#include "graph/verify/verify.h"

#include "absl/strings/str_cat.h"
#include "graph/verify/check.h"

namespace millrace {
namespace verify_internal {

Report::~Report() {
  if (count_ > kMaxFindings) {
    result_->findings.Add(
        {.check = check_, .message = absl::StrCat("... and ", count_ - kMaxFindings, " more")});
  }
  result_->ok = result_->ok && ok();
  result_->checks.push_back({check_, ok(), std::move(facts_)});
}

void Report::Add(int rank, const std::string& node, std::string message, std::string suggestion) {
  if (++count_ > kMaxFindings) return;
  result_->findings.Add({.check = check_,
                         .node = node,
                         .rank = rank,
                         .message = std::move(message),
                         .suggestion = std::move(suggestion)});
}

std::string Grouped(int64_t number) {
  std::string digits = absl::StrCat(number < 0 ? -number : number), text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return number < 0 ? "-" + text : text;
}

std::string Bytes(int64_t bytes) { return Grouped(bytes) + " B"; }

}  // namespace verify_internal

VerifyResult Verify(const Plan& plan) {
  using namespace verify_internal;  // NOLINT: this function is their only caller
  VerifyResult result;
  Context context;
  bool readable = false, placed = false;
  {
    Report report("structure", &result);
    readable = CheckStructure(plan, &context, &report);
  }
  const auto run = [&](const char* name, bool possible, const char* missing, auto check) {
    Report report(name, &result);
    if (possible) {
      check(context, &report);
      return;
    }
    report.Add(-1, "", absl::StrCat("not checked: ", missing));
    report.set_facts(absl::StrCat("not checked: ", missing));
  };
  const char* const unreadable = "the plan's structure is broken";
  run("types", readable, unreadable, CheckTypeRules);
  run("sides", readable, unreadable, CheckMemorySides);
  run("layout", readable, unreadable,
      [&](const Context& c, Report* report) { placed = CheckLayout(c, report); });
  const bool ordered = readable && context.acyclic;
  const char* const unordered = readable ? "a rank's edges form a cycle" : unreadable;
  run("order", ordered, unordered, CheckOrder);
  run("race", ordered && placed, ordered ? "buffers have no valid offsets" : unordered, CheckRaces);
  run("streams", ordered && placed, ordered ? "buffers have no valid offsets" : unordered,
      CheckStreams);
  run("collectives", readable, unreadable, CheckCollectives);
  run("deadlock", readable, unreadable, CheckDeadlock);
  run("memory", ordered && placed, ordered ? "buffers have no valid offsets" : unordered,
      CheckMemory);
  run("credits", ordered, unordered, CheckCredits);
  run("provenance", readable, unreadable, CheckProvenance);
  return result;
}

const std::vector<std::string>& CheckNames() {
  static const auto* const names = new std::vector<std::string>{
      "structure", "types",       "sides",    "layout", "order",   "race",
      "streams",   "collectives", "deadlock", "memory", "credits", "provenance"};
  return *names;
}

std::string ToText(const VerifyResult& result, const Plan& plan) {
  std::string text =
      absl::StrCat("certificate of ", plan.name, ", ", plan.world_size, " ranks, plan ", plan.hash,
                   ": ", result.ok ? "ok" : "FAILED", "\n");
  for (const CheckResult& check : result.checks) {
    absl::StrAppend(&text, check.ok ? "  ok    " : "  FAIL  ", check.name,
                    std::string(check.name.size() < 12 ? 12 - check.name.size() : 1, ' '),
                    check.facts, "\n");
  }
  if (!result.findings.ok()) absl::StrAppend(&text, result.findings.ToText());
  return text;
}

}  // namespace millrace
