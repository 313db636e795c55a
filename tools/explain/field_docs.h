// What pipeline.proto says of a setting: its comment, type, default and values. The proto's comments are the manual,
// so the program carries the schema with them, as protoc read it.
//
//   ASSIGN_OR_RETURN(FieldDoc doc, DocOf("parallel.zero.stage"));
//   doc.comment;           // "0: replicate all (DDP). 1: shard optimizer states. ..."
//   KnobPaths();           // every setting of a pipeline, for "did you mean"
#ifndef MILLRACE_TOOLS_EXPLAIN_FIELD_DOCS_H_
#define MILLRACE_TOOLS_EXPLAIN_FIELD_DOCS_H_

#include <google/protobuf/descriptor.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace millrace {

struct FieldDoc {
  std::string path;
  std::string comment;  // of the field, or of the nearest one above it; else of its enum or message
  std::string type;     // "int64", "bool", "Executor", ...
  std::string fallback;  // default, "" when there is none
  struct EnumValue {
    std::string name, comment;
  };
  std::vector<EnumValue> values;  // of an enum
  const google::protobuf::FieldDescriptor* field = nullptr;
};

// kNotFound for what is no setting.
absl::StatusOr<FieldDoc> DocOf(const std::string& path);

// Paths of all settings that hold a value, without lists of messages and the hand-written graph.
std::vector<std::string> KnobPaths();

// The path that `word` means: itself, or the only path that ends in ".word"; "" when there is none.
std::string KnobNamed(const std::string& word);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_EXPLAIN_FIELD_DOCS_H_
