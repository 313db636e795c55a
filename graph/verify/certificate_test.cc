#include "graph/verify/certificate.h"

#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "graph/plan/hash.h"
#include "graph/verify/testing/valid_plans.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

Plan ValidPlan(int world = 2, StepKind kind = StepKind::kTrain) {
  LowerOptions options;
  options.world_size = world;
  options.zero_stage = 2;
  options.kind = kind;
  return MakeValidPlan(options, Planner::kReal).plan;
}

Certificate Certified(const Plan& plan) { return *MakeCertificate(plan, Verify(plan)); }

std::string Refusal(const Certificate& certificate, const Plan& plan,
                    const Plan* evaluation = nullptr) {
  return std::string(CheckCertificate(certificate, plan, evaluation).message());
}

TEST(CertificateTest, TextGoesOutAndComesBackAndCoversThePlan) {
  const Plan plan = ValidPlan(), evaluation = ValidPlan(2, StepKind::kEvaluate);
  const auto made = MakeCertificate(plan, Verify(plan), evaluation, Verify(evaluation));
  ASSERT_TRUE(made.ok()) << made.status();
  const std::string text = CertificateText(*made);
  EXPECT_THAT(text,
              AllOf(HasSubstr(plan.hash), HasSubstr(evaluation.hash), HasSubstr("world_size: 2")));
  const auto read = ReadCertificate(text, "x.certificate");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(CertificateText(*read), text);
  EXPECT_TRUE(CheckCertificate(*read, plan).ok());
  EXPECT_TRUE(CheckCertificate(*read, plan, &evaluation).ok());
}

TEST(CertificateTest, ListsEveryCheckOfTheVerifierWithItsFacts) {
  const Certificate certificate = Certified(ValidPlan());
  std::vector<std::string> names;
  for (const CertifiedCheck& c : certificate.plan().check()) {
    names.push_back(c.name());
    EXPECT_TRUE(c.ok()) << c.name();
    EXPECT_NE(c.facts(), "") << c.name();
  }
  EXPECT_EQ(names, CheckNames());
}

TEST(CertificateTest, PlanThatIsNotOkGetsNone) {
  Plan plan = ValidPlan();
  plan.rank_plans[0].offset[0] += 1;
  plan.hash = PlanHash(plan);
  const auto made = MakeCertificate(plan, Verify(plan));
  EXPECT_THAT(std::string(made.status().message()),
              AllOf(HasSubstr("no certificate for plan"), HasSubstr("not a multiple of 64")));
}

TEST(CertificateTest, PlanThatWasChangedIsRefusedAlsoWhenItSaysTheOldHash) {
  const Plan plan = ValidPlan();
  const Certificate certificate = Certified(plan);
  Plan changed = plan;
  std::swap(changed.rank_plans[0].lanes[0].order[1], changed.rank_plans[0].lanes[0].order[2]);
  EXPECT_THAT(Refusal(certificate, changed),
              AllOf(HasSubstr("is not covered by a certificate of plan " + plan.hash),
                    HasSubstr("another one than the one that was verified")));
}

TEST(CertificateTest, OtherWorldSizeIsNamedAsTheReason) {
  EXPECT_THAT(Refusal(Certified(ValidPlan(2)), ValidPlan(4)),
              HasSubstr("it was made for 2 ranks, this plan has 4"));
}

TEST(CertificateTest, MissingAndFailedChecksAndOtherVerifiersAreAllSaidAtOnce) {
  const Plan plan = ValidPlan();
  Certificate certificate = Certified(plan);
  certificate.set_verifier(kVerifierVersion - 1);
  certificate.mutable_plan()->mutable_check(2)->set_ok(false);
  certificate.mutable_plan()->mutable_check()->RemoveLast();
  EXPECT_THAT(Refusal(certificate, plan),
              AllOf(HasSubstr("of the verifier, this is version"), HasSubstr("sides failed"),
                    HasSubstr("lacks the checks provenance"), Not(HasSubstr("not covered"))));
}

TEST(CertificateTest, EvaluationPlanMustBeCoveredToo) {
  const Plan plan = ValidPlan(), evaluation = ValidPlan(2, StepKind::kEvaluate);
  EXPECT_THAT(Refusal(Certified(plan), plan, &evaluation),
              HasSubstr("does not cover the evaluation plan"));
  const auto both = MakeCertificate(plan, Verify(plan), evaluation, Verify(evaluation));
  const Plan other = ValidPlan(4, StepKind::kEvaluate);
  EXPECT_THAT(Refusal(*both, plan, &other), HasSubstr("evaluation: plan"));
}

TEST(CertificateTest, BrokenTextIsRefusedWithLineAndColumn) {
  const std::string text = absl::StrReplaceAll(CertificateText(Certified(ValidPlan())),
                                               {{"world_size: 2", "world_size: two"}});
  EXPECT_THAT(std::string(ReadCertificate(text, "x.certificate").status().message()),
              HasSubstr("x.certificate:"));
  EXPECT_THAT(std::string(ReadCertificate("verifier: 1", "y").status().message()),
              HasSubstr("names no plan"));
}

}  // namespace
}  // namespace millrace
