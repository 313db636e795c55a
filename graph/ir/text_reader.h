// Reads protobuf text and says ALL that is wrong with it: unknown fields, misspelt enum values, values of another
// type, fields set twice, missing fields, braces. Protocol Buffers' own parser stops at its first error; here a
// scan finds the mistakes, the text of the wrong fields is replaced by spaces (so that lines and columns stay),
// and the parser gets the rest. The message therefore holds everything that was good, and checks of meaning can
// add their findings to the same report.
//
//   Findings findings;
//   TextLocations where;
//   ReadText(text, "pipelines/digits_vit.textproto", &pipeline, &where, findings);
//   where.Find("train.global_batch")    // file, line, column
#ifndef MILLRACE_GRAPH_IR_TEXT_READER_H_
#define MILLRACE_GRAPH_IR_TEXT_READER_H_

#include <google/protobuf/message.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "graph/base/findings.h"
#include "graph/ir/graph.h"

namespace millrace {

// Where each field of a message stands in its text. Paths: "train.steps", "graph.node[3].input[1]".
class TextLocations {
 public:
  std::string file;

  void Set(const std::string& path, int line, int column) { at_[path] = {line, column}; }
  // The field's place; of a field that is not written, that of the message around it; at last 1:1.
  SourceLocation Find(absl::string_view path) const;
  bool Has(absl::string_view path) const { return at_.contains(path); }

  // Fields that were perhaps meant by something misspelt. A check that would complain about a missing or
  // unexpected value asks first, so that one mistake is one finding.
  void AddSuspect(std::string path) { suspects_.push_back(std::move(path)); }
  bool IsSuspect(absl::string_view path) const;

 private:
  absl::flat_hash_map<std::string, std::pair<int, int>> at_;
  std::vector<std::string> suspects_;
};

// False, with a finding, when the file cannot be read. `what` names it: "machine".
bool ReadTextFile(const std::string& path, const char* what, std::string* text, Findings& findings);

// False when something was found. `message` and `locations` hold what was good.
bool ReadText(absl::string_view text, const std::string& file, google::protobuf::Message* message,
              TextLocations* locations, Findings& findings);

// What to say of a field name that the message has not: near names, or the part of `root` it belongs to.
std::string SuggestField(const std::string& name, const google::protobuf::Descriptor& message,
                         const google::protobuf::Descriptor& root);
// Path of the first field called `name` in the messages below `root`, without the hand-written graph; or "".
std::string FindField(const std::string& name, const google::protobuf::Descriptor& root);
// "steps, epochs, ...": all field names of a message, all value names of an enum.
std::vector<std::string> FieldNames(const google::protobuf::Descriptor& message);
std::vector<std::string> ValueNames(const google::protobuf::EnumDescriptor& type);
// "an integer", "one of ADAMW, SGD": what a field of this type takes.
std::string ExpectedValue(const google::protobuf::FieldDescriptor& field);
// "did you mean 'x'?" or "".
std::string DidYouMean(absl::string_view word, const std::vector<std::string>& candidates);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_IR_TEXT_READER_H_
