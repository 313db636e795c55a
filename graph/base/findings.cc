#include "graph/base/findings.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace millrace {
namespace {

int EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int substitute =
          diagonal + (absl::ascii_tolower(a[i - 1]) == absl::ascii_tolower(b[j - 1]) ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string ToText(const Finding& f) {
  std::string out;
  if (!f.file.empty()) {
    absl::StrAppend(&out, f.file, ":");
    if (f.line > 0) absl::StrAppend(&out, f.line, ":");
    if (f.line > 0 && f.column > 0) absl::StrAppend(&out, f.column, ":");
    out += " ";
  }
  out += "error: ";
  if (!f.check.empty()) absl::StrAppend(&out, "[", f.check, "] ");
  if (!f.node.empty()) absl::StrAppend(&out, "node '", f.node, "'");
  if (f.rank >= 0) absl::StrAppend(&out, f.node.empty() ? "" : " on ", "rank ", f.rank);
  if (!f.node.empty() || f.rank >= 0) out += ": ";
  out += f.message;
  if (!f.suggestion.empty()) absl::StrAppend(&out, "; help: ", f.suggestion);
  return out;
}

std::string Findings::ToText() const {
  std::string out;
  for (const Finding& f : list_) {
    if (!out.empty()) out += "\n";
    out += millrace::ToText(f);
  }
  return out;
}

absl::Status Findings::ToStatus() const {
  return ok() ? absl::OkStatus() : absl::InvalidArgumentError(ToText());
}

std::string Nearest(absl::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  int best_distance = static_cast<int>(std::max<size_t>(1, word.size() / 3)) + 1;
  for (const std::string& candidate : candidates) {
    const int distance = EditDistance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace millrace
