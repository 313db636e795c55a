#include "graph/verify/testing/mutation_tally.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "graph/verify/verify.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

bool NamesNodeOrRank(const Findings& findings) {
  return std::any_of(findings.list().begin(), findings.list().end(),
                     [](const Finding& f) { return !f.node.empty() || f.rank >= 0; });
}

}  // namespace

void MutationTally::Break(const Plan& plan, const std::string& name, uint64_t seed) {
  const VerifyResult valid = Verify(plan);
  EXPECT_TRUE(valid.ok) << name << "\n" << ToText(valid, plan);
  int harmless = 0;
  if (const auto changed = ChangeHarmlessly(plan, seed)) {
    const VerifyResult result = Verify(changed->plan);
    EXPECT_TRUE(result.ok) << name << ", harmless: " << changed->what << "\n"
                           << ToText(result, changed->plan);
    harmless = 1;
  }
  std::map<Damage, Kind> kinds;
  for (const Damage damage : AllDamage()) {
    const auto mutant = Mutate(plan, damage, seed * 1000 + static_cast<uint64_t>(damage));
    if (!mutant.has_value()) continue;
    const VerifyResult result = Verify(mutant->plan);
    Kind& kind = kinds[damage];
    ++kind.made;
    kind.found += result.ok ? 0 : 1;
    for (const CheckResult& check : result.checks) {
      if (!check.ok && !absl::StartsWith(check.facts, "not checked")) ++kind.by_check[check.name];
    }
    const std::string what =
        absl::StrCat(name, ", seed ", seed, ", ", Name(damage), ": ", mutant->what);
    EXPECT_FALSE(result.ok) << what;
    if (damage == Damage::kWrongHash) continue;  // is of the plan as a whole
    EXPECT_TRUE(result.ok || NamesNodeOrRank(result.findings)) << what << "\n"
                                                               << result.findings.ToText();
  }
  std::lock_guard<std::mutex> lock(mutex_);
  ++plans_;
  harmless_ += harmless;
  for (const auto& [damage, kind] : kinds) {
    Kind& sum = kinds_[damage];
    sum.made += kind.made;
    sum.found += kind.found;
    made_ += kind.made;
    found_ += kind.found;
    for (const auto& [check, count] : kind.by_check) sum.by_check[check] += count;
  }
}

std::string MutationTally::Table() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::string text;
  for (const Damage damage : AllDamage()) {
    const auto it = kinds_.find(damage);
    const Kind kind = it == kinds_.end() ? Kind() : it->second;
    std::string checks;
    for (const auto& [name, count] : kind.by_check) {
      absl::StrAppend(&checks, checks.empty() ? "" : ", ", name, " ", count);
    }
    absl::StrAppendFormat(&text, "%-34s %4d of %4d found, %5.1f %% (%s)\n", Name(damage),
                          kind.found, kind.made, kind.made > 0 ? 100.0 * kind.found / kind.made : 0,
                          checks);
  }
  absl::StrAppendFormat(
      &text,
      "%d kinds: %d of %d damaged plans found; %d valid and %d harmlessly changed plans "
      "passed through\n",
      AllDamage().size(), found_, made_, plans_, harmless_);
  return text;
}

std::string MutationTally::NeverMade() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::string text;
  for (const Damage damage : AllDamage()) {
    if (kinds_.count(damage) == 0) absl::StrAppend(&text, text.empty() ? "" : ", ", Name(damage));
  }
  return text;
}

}  // namespace millrace
