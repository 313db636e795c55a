#include "graph/base/findings.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace millrace {
namespace {

// Findings travel inside their status: eight fields each, ended by a byte that no text has.
constexpr absl::string_view kPayload = "millrace/findings";
constexpr absl::string_view kEnd = "\x1f";

// Letters to insert, delete, replace or swap with their neighbour; case is free.
int EditDistance(absl::string_view a, absl::string_view b) {
  const size_t width = b.size() + 1;
  std::vector<int> distance((a.size() + 1) * width);
  auto at = [&](size_t i, size_t j) -> int& { return distance[i * width + j]; };
  auto same = [&](size_t i, size_t j) {
    return absl::ascii_tolower(a[i - 1]) == absl::ascii_tolower(b[j - 1]);
  };
  for (size_t i = 0; i <= a.size(); ++i) at(i, 0) = static_cast<int>(i);
  for (size_t j = 0; j <= b.size(); ++j) at(0, j) = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      at(i, j) =
          std::min({at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + (same(i, j) ? 0 : 1)});
      if (i > 1 && j > 1 && same(i, j - 1) && same(i - 1, j)) {
        at(i, j) = std::min(at(i, j), at(i - 2, j - 2) + 1);
      }
    }
  }
  return at(a.size(), b.size());
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
  if (ok()) return absl::OkStatus();
  std::string fields;
  for (const Finding& f : list_) {
    absl::StrAppend(&fields, f.check, kEnd, f.node, kEnd, f.rank, kEnd, f.message, kEnd);
    absl::StrAppend(&fields, f.suggestion, kEnd, f.file, kEnd, f.line, kEnd, f.column, kEnd);
  }
  absl::Status status = absl::InvalidArgumentError(ToText());
  status.SetPayload(kPayload, absl::Cord(fields));
  return status;
}

Findings FindingsOf(const absl::Status& status) {
  Findings findings;
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayload);
  if (!payload) return findings;
  const std::vector<std::string> fields = absl::StrSplit(std::string(*payload), kEnd);
  const auto number = [&](size_t i) {
    int value = 0;
    return absl::SimpleAtoi(fields[i], &value) ? value : 0;
  };
  for (size_t i = 0; i + 8 <= fields.size(); i += 8) {
    findings.Add({fields[i], fields[i + 1], number(i + 2), fields[i + 3], fields[i + 4],
                  fields[i + 5], number(i + 6), number(i + 7)});
  }
  return findings;
}

std::string Nearest(absl::string_view word, const std::vector<std::string>& candidates) {
  if (word.empty()) return "";
  std::string best;
  int best_distance = static_cast<int>(std::max<size_t>(1, word.size() / 3)) + 1;
  for (const std::string& candidate : candidates) {
    const int distance = EditDistance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  if (!best.empty() || word.size() < 3) return best;
  for (const std::string& candidate : candidates) {
    if (absl::StartsWithIgnoreCase(candidate, word)) return candidate;
  }
  return "";
}

}  // namespace millrace
