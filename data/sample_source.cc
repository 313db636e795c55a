#include "data/sample_source.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace millrace {

std::string ToText(const FieldSpec& field) {
  return absl::StrCat(Name(field.dtype), " [", absl::StrJoin(field.shape, ", "), "]");
}

}  // namespace millrace
