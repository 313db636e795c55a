// What messages about protobuf text say of a schema: names of fields and values, near ones, expected types;
// and where a field stands.
#include <google/protobuf/descriptor.h>

#include <fstream>
#include <iterator>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/ir/text_reader.h"

namespace millrace {
namespace pb = google::protobuf;
namespace {

// Path of the first field called `name` in the messages below `message`; "" when there is none.
std::string FindBelow(const std::string& name, const pb::Descriptor& message,
                      const std::string& path, std::set<const pb::Descriptor*>& seen) {
  if (!seen.insert(&message).second) return "";
  for (int i = 0; i < message.field_count(); ++i) {
    const pb::FieldDescriptor& field = *message.field(i);
    const std::string own = path.empty() ? field.name() : absl::StrCat(path, ".", field.name());
    if (!path.empty() && field.name() == name) return own;
    if (field.message_type() == nullptr || field.is_repeated() || field.name() == "graph") continue;
    std::string found = FindBelow(name, *field.message_type(), own, seen);
    if (!found.empty()) return found;
  }
  return "";
}

}  // namespace

SourceLocation TextLocations::Find(absl::string_view path) const {
  while (!path.empty()) {
    if (const auto it = at_.find(path); it != at_.end())
      return {file, it->second.first, it->second.second};
    const size_t cut = path.find_last_of(".[");
    path = cut == absl::string_view::npos ? "" : path.substr(0, cut);
  }
  return {file, 1, 1};
}

bool TextLocations::IsSuspect(absl::string_view path) const {
  for (const std::string& s : suspects_) {
    if (s == path || absl::StartsWith(path, absl::StrCat(s, ".")) ||
        absl::StartsWith(s, absl::StrCat(path, "."))) {
      return true;
    }
  }
  return false;
}

std::vector<std::string> FieldNames(const pb::Descriptor& message) {
  std::vector<std::string> names;
  for (int i = 0; i < message.field_count(); ++i) names.push_back(message.field(i)->name());
  return names;
}

std::vector<std::string> ValueNames(const pb::EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) names.push_back(type.value(i)->name());
  return names;
}

std::string DidYouMean(absl::string_view word, const std::vector<std::string>& candidates) {
  const std::string near = Nearest(word, candidates);
  return near.empty() ? "" : absl::StrCat("did you mean '", near, "'?");
}

std::string FindField(const std::string& name, const pb::Descriptor& root) {
  std::set<const pb::Descriptor*> seen;
  return FindBelow(name, root, "", seen);
}

std::string SuggestField(const std::string& name, const pb::Descriptor& message,
                         const pb::Descriptor& root) {
  for (int i = 0; i < root.field_count(); ++i) {
    if (root.field(i)->name() == name)
      return absl::StrCat("'", name, "' is a field of the top level");
  }
  const std::string elsewhere = FindField(name, root);
  if (!elsewhere.empty()) return absl::StrCat("did you mean '", elsewhere, "'?");
  return DidYouMean(name, FieldNames(message));
}

std::string ExpectedValue(const pb::FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_INT32:
      return "an integer of 32 bits";
    case pb::FieldDescriptor::CPPTYPE_INT64:
      return "an integer";
    case pb::FieldDescriptor::CPPTYPE_DOUBLE:
    case pb::FieldDescriptor::CPPTYPE_FLOAT:
      return "a number";
    case pb::FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case pb::FieldDescriptor::CPPTYPE_STRING:
      return "a string in quotes";
    case pb::FieldDescriptor::CPPTYPE_ENUM:
      return absl::StrCat("one of ", absl::StrJoin(ValueNames(*field.enum_type()), ", "));
    case pb::FieldDescriptor::CPPTYPE_MESSAGE:
      return absl::StrCat("'{' with ", absl::StrJoin(FieldNames(*field.message_type()), ", "));
    default:
      return "a value";
  }
}

bool ReadTextFile(const std::string& path, const char* what, std::string* text,
                  Findings& findings) {
  std::ifstream in(path, std::ios::binary);
  if (in) text->assign(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  if (in && !in.bad()) return true;
  Finding f;
  f.check = "file";
  f.file = path;
  f.message = absl::StrCat("the ", what, " cannot be read, expected a textproto file");
  findings.Add(std::move(f));
  return false;
}

}  // namespace millrace
