#include "ops/back_end.h"

#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace millrace {
namespace {

std::map<std::string, BackEndOpener>& Openers() {
  static auto* const openers = new std::map<std::string, BackEndOpener>;
  return *openers;
}

}  // namespace

bool RegisterBackEnd(const std::string& kind, BackEndOpener opener) {
  return Openers().emplace(kind, std::move(opener)).second;
}

absl::StatusOr<std::shared_ptr<BackEnd>> OpenBackEnd(const std::string& kind,
                                                     const BackEndOptions& options) {
  if (kind == "CPU") return std::shared_ptr<BackEnd>();
  const auto found = Openers().find(kind);
  if (found != Openers().end()) return found->second(options);
  return absl::FailedPreconditionError(absl::StrCat(
      "this binary was built without them; help: build with --config=", absl::AsciiStrToLower(kind),
      ", or take another machine by --set machine=cpu_2_cores"));
}

}  // namespace millrace
