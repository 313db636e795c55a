#include "tools/explain/field_docs.h"

#include <google/protobuf/descriptor.pb.h>

#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "graph/ir/field_path.h"
#include "graph/ir/pipeline.pb.h"

namespace millrace {
namespace pb = google::protobuf;
namespace {

constexpr uint8_t kDescriptors[] = {
#include "tools/explain/pipeline_descriptors.inc"
};

std::string OneLine(const std::string& comment) {
  std::vector<std::string> words;
  for (absl::string_view line : absl::StrSplit(comment, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (!line.empty()) words.emplace_back(line);
  }
  return absl::StrJoin(words, " ");
}

// Comments of messages, fields, enums and their values by full name ("millrace.Zero.stage").
class Comments {
 public:
  Comments() {
    pb::FileDescriptorSet set;
    if (!set.ParseFromArray(kDescriptors, sizeof(kDescriptors))) return;
    for (const pb::FileDescriptorProto& file : set.file()) Add(file);
  }

  std::string Of(const std::string& name) const {
    const auto it = by_name_.find(name);
    return it == by_name_.end() ? "" : it->second;
  }

 private:
  void Add(const pb::FileDescriptorProto& file) {
    for (const auto& location : file.source_code_info().location()) {
      const std::string text =
          OneLine(location.has_leading_comments() ? location.leading_comments()
                                                  : location.trailing_comments());
      const std::string name = NameAt(file, location);
      if (!text.empty() && !name.empty()) by_name_.try_emplace(name, text);
    }
  }

  // The path is (field number, index) pairs through the file's own description; this schema nests enums in
  // messages, no messages.
  static std::string NameAt(const pb::FileDescriptorProto& file,
                            const pb::SourceCodeInfo::Location& at) {
    if (at.path_size() < 2 || at.path_size() % 2 != 0) return "";
    if (at.path(0) != pb::FileDescriptorProto::kMessageTypeFieldNumber) return "";
    const pb::DescriptorProto& message = file.message_type(at.path(1));
    const std::string own = absl::StrCat(file.package(), ".", message.name());
    if (at.path_size() == 2) return own;
    if (at.path(2) == pb::DescriptorProto::kFieldFieldNumber && at.path_size() == 4) {
      return absl::StrCat(own, ".", message.field(at.path(3)).name());
    }
    if (at.path(2) != pb::DescriptorProto::kEnumTypeFieldNumber) return "";
    const pb::EnumDescriptorProto& type = message.enum_type(at.path(3));
    if (at.path_size() == 4) return absl::StrCat(own, ".", type.name());
    // A value's full name is a sibling of its type's.
    return absl::StrCat(own, ".", type.value(at.path(5)).name());
  }

  std::map<std::string, std::string> by_name_;
};

const Comments& AllComments() {
  static const auto* const comments = new Comments();
  return *comments;
}

void AddPaths(const pb::Descriptor& message, const std::string& path,
              std::vector<std::string>* paths) {
  for (int i = 0; i < message.field_count(); ++i) {
    const pb::FieldDescriptor& field = *message.field(i);
    const std::string own = path.empty() ? field.name() : absl::StrCat(path, ".", field.name());
    if (field.message_type() == nullptr) {
      paths->push_back(own);
    } else if (!field.is_repeated() && field.message_type() != GraphDef::descriptor()) {
      AddPaths(*field.message_type(), own, paths);
    }
  }
}

}  // namespace

absl::StatusOr<FieldDoc> DocOf(const std::string& path) {
  const pb::Descriptor* message = Pipeline::descriptor();
  const pb::FieldDescriptor* field = nullptr;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(path, '.'))) {
    field = message == nullptr ? nullptr : message->FindFieldByName(part);
    if (field == nullptr) {
      return absl::NotFoundError(absl::StrCat("'", path, "' is no setting of a pipeline"));
    }
    message = field->is_repeated() ? nullptr : field->message_type();
  }
  if (field->message_type() != nullptr) {
    return absl::NotFoundError(absl::StrCat("'", path, "' is a group of settings"));
  }
  const Comments& comments = AllComments();
  FieldDoc doc;
  doc.path = path;
  doc.field = field;
  doc.comment = comments.Of(field->full_name());
  // A comment serves the fields below it that have none of their own: "Run length: steps, or epochs".
  for (int i = field->index(); i >= 0 && doc.comment.empty() && field->enum_type() == nullptr;
       --i) {
    doc.comment = comments.Of(field->containing_type()->field(i)->full_name());
  }
  doc.type =
      absl::StrCat(field->is_repeated() ? "list of " : "",
                   field->enum_type() != nullptr ? field->enum_type()->name() : field->type_name());
  if (field->has_default_value()) doc.fallback = FieldText(Pipeline(), path);
  if (const pb::EnumDescriptor* type = field->enum_type(); type != nullptr) {
    if (doc.comment.empty()) doc.comment = comments.Of(type->full_name());
    for (int i = 0; i < type->value_count(); ++i) {
      doc.values.push_back({type->value(i)->name(), comments.Of(type->value(i)->full_name())});
    }
  }
  if (doc.comment.empty()) doc.comment = comments.Of(field->containing_type()->full_name());
  return doc;
}

std::vector<std::string> KnobPaths() {
  std::vector<std::string> paths;
  AddPaths(*Pipeline::descriptor(), "", &paths);
  return paths;
}

std::string KnobNamed(const std::string& word) {
  std::string found;
  for (const std::string& path : KnobPaths()) {
    if (path == word) return path;
    if (!absl::EndsWith(path, absl::StrCat(".", word))) continue;
    if (!found.empty()) return "";
    found = path;
  }
  return found;
}

}  // namespace millrace
