#include "data/picture_set.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace millrace {

void CappedFindings::Add(std::string message, std::string suggestion, std::string file) {
  if (++count_ > limit_) return;
  findings_.Add({.check = check_,
                 .message = std::move(message),
                 .suggestion = std::move(suggestion),
                 .file = std::move(file)});
}

absl::Status CappedFindings::ToStatus() const {
  if (count_ <= limit_) return findings_.ToStatus();
  Findings all = findings_;
  all.Add({.check = check_, .message = absl::StrCat("and ", count_ - limit_, " more")});
  return all.ToStatus();
}

}  // namespace millrace
