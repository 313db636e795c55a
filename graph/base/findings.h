// Gathers every mistake of an input before reporting, so that the author sees all of them at once
// (graph text, pipeline settings, plans). A finding names where (file, line, column, node, rank),
// what was wrong, what was expected and, where one can be guessed, a suggestion.
//
//   Findings findings;
//   findings.Add({.check = "batch", .file = f, .line = 12, .column = 3,
//                 .message = "global_batch is 10, expected micro_batch * accumulation * data = 8",
//                 .suggestion = "set train.global_batch to 8 or leave it out"});
//   if (!findings.ok()) return findings.ToStatus();      // kInvalidArgument, one line per finding
//
// Not thread-safe.
#ifndef MILLRACE_GRAPH_BASE_FINDINGS_H_
#define MILLRACE_GRAPH_BASE_FINDINGS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace millrace {

struct Finding {
  std::string check;       // short name of the rule: "syntax", "unknown_field", "race", ...
  std::string node;        // node the finding is about, empty when none
  int rank = -1;           // rank it was seen on, -1 when it concerns no single rank
  std::string message;     // what is wrong and what was expected
  std::string suggestion;  // what would mend it, empty when unknown
  std::string file;
  int line = 0;    // 1-based, 0 when unknown
  int column = 0;  // 1-based, 0 when unknown
};

class Findings {
 public:
  void Add(Finding finding) { list_.push_back(std::move(finding)); }
  void Append(const Findings& other) {
    list_.insert(list_.end(), other.list_.begin(), other.list_.end());
  }
  bool ok() const { return list_.empty(); }
  const std::vector<Finding>& list() const { return list_; }

  // kInvalidArgument whose message is ToText(); OK when nothing was found. FindingsOf gives them back.
  absl::Status ToStatus() const;
  // Compiler style, one finding a line: "file:line:column: error: message (help: suggestion)".
  std::string ToText() const;

 private:
  std::vector<Finding> list_;
};

// What a status of Findings::ToStatus was made of, however many callers it passed; empty for any other status.
Findings FindingsOf(const absl::Status& status);

// "file:line:column: error: [check] message; help: suggestion" with the absent parts left out.
std::string ToText(const Finding& finding);

// The candidate nearest to `word` by edit distance (a swap of neighbours counts once, case is free), else one
// that begins with it, else "": none is near when more than a third of its letters differ. For "did you mean ...".
std::string Nearest(absl::string_view word, const std::vector<std::string>& candidates);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_BASE_FINDINGS_H_
