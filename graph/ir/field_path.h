// Fields of a message by their path in the text, through descriptors: what `--set path.to.field=value` does.
//
//   train.steps=200                  scalars; numbers of *_bytes fields may have a unit: 25MiB, 1GB
//   optimizer.kind=SGD               enums by name
//   data.augment.mean=[0.5, 0.4]     a list replaces; mean=0.5 appends; mean[0]=0.5 changes one
//   model.arg.hidden_size=64         messages in a list by their `name`; arguments are added when new
//   model.arg[0].i=64                or by their index
#ifndef MILLRACE_GRAPH_IR_FIELD_PATH_H_
#define MILLRACE_GRAPH_IR_FIELD_PATH_H_

#include <google/protobuf/message.h>

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "graph/base/findings.h"

namespace millrace {

// Applies "path=value". True on success; then `paths` gets the paths of what was set, as TextLocations writes
// them ("model.arg[1].i"). On failure `paths` gets what was perhaps meant, for TextLocations::AddSuspect. A finding has the assignment as its file: "--set train.stpes=3".
bool ApplyOverride(google::protobuf::Message* message, const std::string& assignment,
                   std::vector<std::string>* paths, Findings& findings);

// Whether the field at a path without lists ("train.steps", "data.augment") is set.
bool IsSet(const google::protobuf::Message& message, absl::string_view path);

// The field's value as text, its default when it is not set: "25", "ADAMW", "\"a.bin\"", "[0.5, 0.5]".
std::string FieldText(const google::protobuf::Message& message, absl::string_view path);

// "25MiB" -> 26214400; KiB, MiB, GiB, TiB, kB/KB, MB, GB, TB, B. False when it is no whole number of bytes.
bool ParseBytes(absl::string_view text, int64_t* bytes);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_IR_FIELD_PATH_H_
