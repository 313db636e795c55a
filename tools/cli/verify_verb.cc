// verify: proves the pipeline's plans, and writes the certificate. run asks the same of every plan before it starts.
#include <iostream>

#include "data/file.h"
#include "tools/cli/report.h"
#include "tools/cli/verbs.h"

namespace millrace {
namespace {

// The training step's and, where there is one, the evaluation step's.
struct Proof {
  VerifyResult plan;
  std::optional<VerifyResult> evaluation;
  bool ok() const { return plan.ok && (!evaluation || evaluation->ok); }
};

Proof Prove(const CompiledPipeline& c) {
  Proof proof;
  proof.plan = Verify(c.plan);
  if (c.eval_plan) proof.evaluation = Verify(*c.eval_plan);
  return proof;
}

absl::StatusOr<Certificate> MakeCertificate(const CompiledPipeline& c, const Proof& proof) {
  return c.eval_plan ? MakeCertificate(c.plan, proof.plan, *c.eval_plan, *proof.evaluation)
                     : MakeCertificate(c.plan, proof.plan);
}

absl::StatusOr<Certificate> Covering(const std::string& file, const CompiledPipeline& c) {
  absl::StatusOr<std::string> text = ReadFile(file);
  if (!text.ok()) return text.status();
  absl::StatusOr<Certificate> certificate = ReadCertificate(*text, file);
  if (!certificate.ok()) return certificate;
  const absl::Status fits =
      CheckCertificate(*certificate, c.plan, c.eval_plan ? &*c.eval_plan : nullptr);
  if (!fits.ok()) return absl::Status(fits.code(), file + ": " + std::string(fits.message()));
  return certificate;
}

}  // namespace

std::optional<Certificate> Certify(const CommandLine& line, const Folders& folders,
                                   const CompiledPipeline& c, int* exit_code) {
  absl::StatusOr<Certificate> certificate;
  if (line.Has("certificate")) {
    certificate = Covering(UserPath(folders, line.Get("certificate", "")), c);
  } else {
    const Proof proof = Prove(c);
    certificate = MakeCertificate(c, proof);
    if (!proof.plan.ok) std::cerr << ToText(proof.plan, c.plan);
  }
  if (certificate.ok()) return *std::move(certificate);
  *exit_code = Fail(line, certificate.status(), Findings(), 2);
  return std::nullopt;
}

int VerifyVerb(const CommandLine& line, const Folders& folders) {
  int code = 0;
  const std::optional<CompiledPipeline> c = LoadAndCompile(line, folders, &code);
  if (!c) return code;
  const Proof proof = Prove(*c);
  std::cerr << ToText(proof.plan, c->plan);
  Json json = VerifyJson(proof.plan, c->plan);
  if (proof.evaluation) {
    std::cerr << "evaluation: " << ToText(*proof.evaluation, *c->eval_plan);
    json["evaluation"] = VerifyJson(*proof.evaluation, *c->eval_plan);
    json["ok"] = proof.ok();
  }
  if (proof.ok() && line.Has("out")) {
    const std::string file = UserPath(folders, line.Get("out", ""));
    const absl::StatusOr<Certificate> certificate = MakeCertificate(*c, proof);
    const absl::Status written = certificate.ok()
                                     ? WriteFileAtomically(file, CertificateText(*certificate))
                                     : certificate.status();
    if (!written.ok()) return Fail(line, written, Findings(), 2);
    std::cerr << "wrote " << file << "\n";
    json["certificate"] = file;
  }
  PrintJson(line, json.dump());
  return proof.ok() ? 0 : 2;
}

}  // namespace millrace
