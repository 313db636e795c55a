// The verifier's word as a file: which plans it has proved, by their hashes, with the facts of every check. A plan is
// verified once, where it is cheap; what runs it later only compares hashes.
//
//   ASSIGN_OR_RETURN(Certificate made, MakeCertificate(plan, Verify(plan)));
//   WriteFileAtomically("step.certificate", CertificateText(made));
//   ...
//   ASSIGN_OR_RETURN(Certificate read, ReadCertificate(text, "step.certificate"));
//   RETURN_IF_ERROR(CheckCertificate(read, plan));        // another plan, another verifier: refused, with the reason
//
// It finds accidents - an edited schedule, an old file, another world size - and is no signature against forgery.
#ifndef MILLRACE_GRAPH_VERIFY_CERTIFICATE_H_
#define MILLRACE_GRAPH_VERIFY_CERTIFICATE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "graph/plan/plan.h"
#include "graph/verify/certificate.pb.h"
#include "graph/verify/verify.h"

namespace millrace {

// Of a training step and, when there is one, its evaluation. The findings as an error when a result is not ok:
// there are no certificates of failure.
absl::StatusOr<Certificate> MakeCertificate(const Plan& plan, const VerifyResult& result);
absl::StatusOr<Certificate> MakeCertificate(const Plan& plan, const VerifyResult& result,
                                            const Plan& evaluation,
                                            const VerifyResult& evaluation_result);

// Protobuf text with a comment that says what it is.
std::string CertificateText(const Certificate& certificate);

// All mistakes of the text at once, with line and column. `file` is for messages.
absl::StatusOr<Certificate> ReadCertificate(absl::string_view text, const std::string& file);

// Does it cover exactly this plan, and this evaluation plan when one is given? The hashes are computed anew.
// kFailedPrecondition with all reasons against it.
absl::Status CheckCertificate(const Certificate& certificate, const Plan& plan,
                              const Plan* evaluation = nullptr);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_CERTIFICATE_H_
