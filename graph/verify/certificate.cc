#include "graph/verify/certificate.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/base/findings.h"
#include "graph/base/status.h"
#include "graph/ir/text_reader.h"
#include "graph/plan/hash.h"

namespace millrace {
namespace {

absl::Status Fill(const Plan& plan, const VerifyResult& result, CertifiedPlan* out) {
  if (!result.ok) {
    return Annotate(result.findings.ToStatus(), "no certificate for plan ", plan.name);
  }
  out->set_name(plan.name);
  out->set_hash(PlanHash(plan));
  out->set_world_size(plan.world_size);
  out->set_machine(plan.machine);
  for (const CheckResult& check : result.checks) {
    CertifiedCheck* c = out->add_check();
    c->set_name(check.name);
    c->set_ok(check.ok);
    c->set_facts(check.facts);
  }
  return absl::OkStatus();
}

// What speaks against `certified` as the proof of `plan`; nothing when it is one.
void Compare(const CertifiedPlan& certified, const Plan& plan, const std::string& which,
             std::vector<std::string>* reasons) {
  const auto say = [&](const auto&... words) { reasons->push_back(absl::StrCat(which, words...)); };
  if (const std::string hash = PlanHash(plan); certified.hash() != hash) {
    std::string why;
    if (certified.name() != plan.name) {
      why = absl::StrCat(": it was made for ", certified.name(), ", this is ", plan.name);
    } else if (certified.world_size() != plan.world_size) {
      why = absl::StrCat(": it was made for ", certified.world_size(), " ranks, this plan has ",
                         plan.world_size);
    } else if (certified.machine() != plan.machine) {
      why = absl::StrCat(": it was made for machine ", certified.machine(), ", this is ",
                         plan.machine);
    } else {
      why = ": the schedule is another one than the one that was verified";
    }
    say("plan ", hash, " is not covered by a certificate of plan ",
        certified.hash().empty() ? "(no hash)" : certified.hash(), why);
  }
  std::vector<std::string> missing, failed;
  for (const std::string& name : CheckNames()) {
    const auto it = std::find_if(certified.check().begin(), certified.check().end(),
                                 [&](const CertifiedCheck& c) { return c.name() == name; });
    if (it == certified.check().end()) missing.push_back(name);
  }
  for (const CertifiedCheck& c : certified.check()) {
    if (!c.ok()) failed.push_back(c.name());
  }
  if (!missing.empty()) say("the certificate lacks the checks ", absl::StrJoin(missing, ", "));
  if (!failed.empty()) say("the certificate says that ", absl::StrJoin(failed, ", "), " failed");
}

}  // namespace

absl::StatusOr<Certificate> MakeCertificate(const Plan& plan, const VerifyResult& result) {
  Certificate certificate;
  certificate.set_verifier(kVerifierVersion);
  RETURN_IF_ERROR(Fill(plan, result, certificate.mutable_plan()));
  return certificate;
}

absl::StatusOr<Certificate> MakeCertificate(const Plan& plan, const VerifyResult& result,
                                            const Plan& evaluation,
                                            const VerifyResult& evaluation_result) {
  ASSIGN_OR_RETURN(Certificate certificate, MakeCertificate(plan, result));
  RETURN_IF_ERROR(Annotate(Fill(evaluation, evaluation_result, certificate.mutable_evaluation()),
                           "evaluation"));
  return certificate;
}

std::string CertificateText(const Certificate& certificate) {
  std::string text;
  google::protobuf::TextFormat::Printer printer;
  printer.SetUseUtf8StringEscaping(true);
  printer.PrintToString(certificate, &text);
  return absl::StrCat(
      "# Certificate of a plan: `millrace verify PIPELINE --out FILE` makes it, `millrace run "
      "PIPELINE "
      "--certificate=FILE`\n# runs only a plan whose hash it has.\n",
      text);
}

absl::StatusOr<Certificate> ReadCertificate(absl::string_view text, const std::string& file) {
  Certificate certificate;
  Findings findings;
  TextLocations locations;
  if (!ReadText(text, file, &certificate, &locations, findings)) return findings.ToStatus();
  if (!certificate.has_plan()) {
    findings.Add({.check = "certificate",
                  .message = "names no plan",
                  .suggestion = "`millrace verify PIPELINE --out FILE` writes a certificate",
                  .file = file});
    return findings.ToStatus();
  }
  return certificate;
}

absl::Status CheckCertificate(const Certificate& certificate, const Plan& plan,
                              const Plan* evaluation) {
  std::vector<std::string> reasons;
  if (certificate.verifier() != kVerifierVersion) {
    reasons.push_back(absl::StrCat("it is of version ", certificate.verifier(),
                                   " of the verifier, this is version ", kVerifierVersion));
  }
  Compare(certificate.plan(), plan, "", &reasons);
  if (evaluation != nullptr && certificate.has_evaluation()) {
    Compare(certificate.evaluation(), *evaluation, "evaluation: ", &reasons);
  } else if (evaluation != nullptr) {
    reasons.push_back("it does not cover the evaluation plan");
  }
  if (reasons.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "the certificate does not fit: ", absl::StrJoin(reasons, "; "), "; verify the plan again"));
}

}  // namespace millrace
