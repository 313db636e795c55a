// SHA-256 of a stream of bytes (OpenSSL's libcrypto, which uses the processor's own instructions).
#ifndef MILLRACE_PIPELINES_RUNNER_SHA256_H_
#define MILLRACE_PIPELINES_RUNNER_SHA256_H_

#include <openssl/evp.h>

#include <cstddef>
#include <memory>
#include <string>

#include "absl/strings/escaping.h"

namespace millrace {

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr);
  }
  void Update(const void* data, size_t bytes) { EVP_DigestUpdate(context_.get(), data, bytes); }
  // Lower-case hex; ends the stream.
  std::string HexDigest() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    EVP_DigestFinal_ex(context_.get(), digest, &length);
    return absl::BytesToHexString(std::string(reinterpret_cast<char*>(digest), length));
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace millrace

#endif  // MILLRACE_PIPELINES_RUNNER_SHA256_H_
