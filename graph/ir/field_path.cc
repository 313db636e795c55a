#include "graph/ir/field_path.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <cmath>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "graph/ir/text_reader.h"

namespace millrace {
namespace pb = google::protobuf;
namespace {

bool ParseInteger(absl::string_view text, bool wide, int64_t* value) {
  if (!absl::SimpleAtoi(text, value)) return false;
  return wide || (*value >= std::numeric_limits<int32_t>::min() &&
                  *value <= std::numeric_limits<int32_t>::max());
}

std::string Unquoted(absl::string_view text) {
  if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'') &&
      text.back() == text.front()) {
    text = text.substr(1, text.size() - 2);
  }
  return std::string(text);
}

// One assignment on its way through the message.
class Override {
 public:
  Override(pb::Message* root, const std::string& assignment, std::vector<std::string>* paths,
           Findings& findings)
      : root_(root), assignment_(assignment), paths_(paths), findings_(findings) {}

  bool Apply() {
    const size_t equals = assignment_.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Fail("override", absl::StrCat("'", assignment_,
                                           "' is no assignment, expected path.to.field=value"));
    }
    value_ =
        std::string(absl::StripAsciiWhitespace(absl::string_view(assignment_).substr(equals + 1)));
    parts_ = absl::StrSplit(
        absl::StripAsciiWhitespace(absl::string_view(assignment_).substr(0, equals)), '.');
    return Descend(root_, 0, "");
  }

 private:
  bool Fail(const char* check, std::string message, std::string suggestion = "") {
    Finding f;
    f.check = check;
    f.message = std::move(message);
    f.suggestion = std::move(suggestion);
    f.file = absl::StrCat("--set ", assignment_);
    findings_.Add(std::move(f));
    return false;
  }

  // For the caller: the field that was perhaps meant.
  void Meant(const std::string& path, const std::string& name) {
    if (!name.empty()) paths_->push_back(path.empty() ? name : absl::StrCat(path, ".", name));
  }

  // Part i names a field of `message`, which lies at `path`.
  bool Descend(pb::Message* message, size_t i, const std::string& path) {
    std::string name = parts_[i];
    int64_t index = -1;
    if (const size_t bracket = name.find('['); bracket != std::string::npos) {
      if (name.back() != ']' ||
          !absl::SimpleAtoi(name.substr(bracket + 1, name.size() - bracket - 2), &index) ||
          index < 0) {
        return Fail("override", absl::StrCat("'", name, "' has no index, expected ",
                                             name.substr(0, bracket), "[0]"));
      }
      name.resize(bracket);
    }
    const pb::Descriptor& type = *message->GetDescriptor();
    const pb::FieldDescriptor* field = type.FindFieldByName(name);
    if (field == nullptr) {
      Meant(path, Nearest(name, FieldNames(type)));
      Meant("", FindField(name, *root_->GetDescriptor()));
      return Fail("unknown_field",
                  absl::StrCat("unknown field '", name, "'",
                               path.empty() ? "" : absl::StrCat(" in '", path, "'"),
                               ", expected one of ", absl::StrJoin(FieldNames(type), ", ")),
                  SuggestField(name, type, *root_->GetDescriptor()));
    }
    const std::string own = path.empty() ? name : absl::StrCat(path, ".", name);
    const bool last = i + 1 == parts_.size();
    if (index >= 0 && !field->is_repeated()) {
      return Fail("override", absl::StrCat("'", own, "' is one value, not a list"),
                  absl::StrCat("write ", own));
    }
    const bool is_message = field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE;
    if (!is_message) {
      if (!last)
        return Fail("unknown_field", absl::StrCat("'", own, "' is a value and has no fields"));
      return field->is_repeated() ? SetInList(message, field, index, own)
                                  : SetValue(message, field, -1, value_, own);
    }
    if (last) {
      return Fail("override",
                  absl::StrCat("'", own, "' is a message, expected one of its fields: ",
                               absl::StrJoin(FieldNames(*field->message_type()), ", ")));
    }
    const pb::Reflection& reflection = *message->GetReflection();
    if (!field->is_repeated())
      return Descend(reflection.MutableMessage(message, field), i + 1, own);
    if (index >= 0) {
      const int size = reflection.FieldSize(*message, field);
      if (index > size) {
        return Fail("override", absl::StrCat("'", own, "' has ", size,
                                             " entries, expected an index up to ", size));
      }
      pb::Message* entry =
          index < size ? reflection.MutableRepeatedMessage(message, field, static_cast<int>(index))
                       : reflection.AddMessage(message, field);
      return Descend(entry, i + 1, absl::StrCat(own, "[", index, "]"));
    }
    return DescendByName(message, field, i + 1, own);
  }

  // Part i is the `name` of an entry of a list of messages. What follows may hold dots only for arguments.
  bool DescendByName(pb::Message* message, const pb::FieldDescriptor* field, size_t i,
                     const std::string& own) {
    const pb::FieldDescriptor* key = field->message_type()->FindFieldByName("name");
    if (key == nullptr) {
      return Fail("override",
                  absl::StrCat("'", own, "' is a list, expected an index: ", own, "[0]"));
    }
    const pb::Reflection& reflection = *message->GetReflection();
    std::vector<std::string> names;
    for (int k = 0; k < reflection.FieldSize(*message, field); ++k) {
      pb::Message* entry = reflection.MutableRepeatedMessage(message, field, k);
      names.push_back(entry->GetReflection()->GetString(*entry, key));
      if (names.back() == parts_[i]) return Entry(entry, i + 1, absl::StrCat(own, "[", k, "]"));
    }
    if (!IsArgument(*field->message_type())) {
      return Fail(
          "override",
          absl::StrCat(
              "'", own, "' has no entry named '", parts_[i], "'",
              names.empty() ? "" : absl::StrCat(", expected one of ", absl::StrJoin(names, ", "))),
          DidYouMean(parts_[i], names));
    }
    pb::Message* entry = reflection.AddMessage(message, field);
    entry->GetReflection()->SetString(entry, key, parts_[i]);
    const bool good = Entry(entry, i + 1, absl::StrCat(own, "[", names.size(), "]"));
    if (!good) reflection.RemoveLast(message, field);
    return good;
  }

  static bool IsArgument(const pb::Descriptor& type) { return type.name() == "Arg"; }

  bool Entry(pb::Message* entry, size_t i, const std::string& path) {
    if (i < parts_.size()) return Descend(entry, i, path);
    if (!IsArgument(*entry->GetDescriptor())) {
      return Fail("override",
                  absl::StrCat("'", path, "' is a message, expected one of its fields: ",
                               absl::StrJoin(FieldNames(*entry->GetDescriptor()), ", ")));
    }
    // An argument's value: of the type it has, else of the type that the text has.
    const pb::Descriptor& type = *entry->GetDescriptor();
    const pb::FieldDescriptor* field =
        entry->GetReflection()->GetOneofFieldDescriptor(*entry, type.FindOneofByName("value"));
    if (field == nullptr) {
      int64_t integer;
      double number;
      const char* guess = absl::SimpleAtoi(value_, &integer)      ? "i"
                          : absl::SimpleAtod(value_, &number)     ? "f"
                          : value_ == "true" || value_ == "false" ? "b"
                                                                  : "s";
      field = type.FindFieldByName(guess);
    }
    return SetValue(entry, field, -1, value_, absl::StrCat(path, ".", field->name()));
  }

  bool SetInList(pb::Message* message, const pb::FieldDescriptor* field, int64_t index,
                 const std::string& own) {
    const pb::Reflection& reflection = *message->GetReflection();
    const int size = reflection.FieldSize(*message, field);
    if (index > size) {
      return Fail("override", absl::StrCat("'", own, "' has ", size,
                                           " entries, expected an index up to ", size));
    }
    if (index < 0 && absl::StartsWith(value_, "[") && absl::EndsWith(value_, "]")) {
      const absl::string_view inside = absl::string_view(value_).substr(1, value_.size() - 2);
      reflection.ClearField(message, field);
      int at = 0;
      bool good = true;
      for (absl::string_view part : absl::StrSplit(inside, ',', absl::SkipWhitespace())) {
        good &= SetValue(message, field, at, std::string(absl::StripAsciiWhitespace(part)),
                         absl::StrCat(own, "[", at, "]"));
        ++at;
      }
      return good;
    }
    const int at = index < 0 ? size : static_cast<int>(index);
    return SetValue(message, field, at, value_, absl::StrCat(own, "[", at, "]"));
  }

  // index -1: a singular field; otherwise an entry of a list, appended when it is one past the end.
  bool SetValue(pb::Message* m, const pb::FieldDescriptor* field, int index,
                const std::string& value, const std::string& path) {
    const pb::Reflection& r = *m->GetReflection();
    const bool add = index >= 0 && index >= r.FieldSize(*m, field);
#define MILLRACE_SET(Type, v)                \
  if (index < 0) {                           \
    r.Set##Type(m, field, v);                \
  } else if (add) {                          \
    r.Add##Type(m, field, v);                \
  } else {                                   \
    r.SetRepeated##Type(m, field, index, v); \
  }                                          \
  paths_->push_back(path);                   \
  return true
    int64_t integer = 0;
    double number = 0;
    switch (field->cpp_type()) {
      case pb::FieldDescriptor::CPPTYPE_INT32:
        if (!ParseInteger(value, false, &integer)) break;
        MILLRACE_SET(Int32, static_cast<int32_t>(integer));
      case pb::FieldDescriptor::CPPTYPE_INT64:
        if (!ParseInteger(value, true, &integer) &&
            !(absl::EndsWith(field->name(), "bytes") && ParseBytes(value, &integer))) {
          break;
        }
        MILLRACE_SET(Int64, integer);
      case pb::FieldDescriptor::CPPTYPE_DOUBLE:
        if (!absl::SimpleAtod(value, &number)) break;
        MILLRACE_SET(Double, number);
      case pb::FieldDescriptor::CPPTYPE_BOOL:
        if (value != "true" && value != "false" && value != "0" && value != "1") break;
        MILLRACE_SET(Bool, value == "true" || value == "1");
      case pb::FieldDescriptor::CPPTYPE_STRING:
        MILLRACE_SET(String, Unquoted(value));
      case pb::FieldDescriptor::CPPTYPE_ENUM: {
        const pb::EnumValueDescriptor* v = field->enum_type()->FindValueByName(value);
        if (v == nullptr) {
          Meant("", path);
          return Fail(
              "unknown_value",
              absl::StrCat("'", path, "' is '", value, "', expected ", ExpectedValue(*field)),
              DidYouMean(value, ValueNames(*field->enum_type())));
        }
        MILLRACE_SET(Enum, v);
      }
      default:
        break;
    }
#undef MILLRACE_SET
    Meant("", path);
    return Fail(
        "value_type",
        absl::StrCat("'", path, "' is '", value, "', expected ", ExpectedValue(*field),
                     absl::EndsWith(field->name(), "bytes") ? ", perhaps with a unit (25MiB)" : ""),
        field->cpp_type() == pb::FieldDescriptor::CPPTYPE_BOOL
            ? DidYouMean(value, {"true", "false"})
            : "");
  }

  pb::Message* root_;
  const std::string& assignment_;
  std::vector<std::string>* paths_;
  Findings& findings_;
  std::string value_;
  std::vector<std::string> parts_;
};

// The message around the last component, or nullptr when the path is none of the schema's.
const pb::Message* Walk(const pb::Message& message, absl::string_view path,
                        const pb::FieldDescriptor** field, bool* set) {
  const pb::Message* at = &message;
  *set = true;
  const std::vector<std::string> parts = absl::StrSplit(path, '.');
  for (size_t i = 0; i < parts.size(); ++i) {
    *field = at->GetDescriptor()->FindFieldByName(parts[i]);
    if (*field == nullptr) return nullptr;
    const pb::Reflection& r = *at->GetReflection();
    *set =
        *set && ((*field)->is_repeated() ? r.FieldSize(*at, *field) > 0 : r.HasField(*at, *field));
    if (i + 1 == parts.size()) return at;
    if ((*field)->is_repeated() || (*field)->message_type() == nullptr) return nullptr;
    at = &r.GetMessage(*at, *field);
  }
  return nullptr;
}

}  // namespace

bool ApplyOverride(pb::Message* message, const std::string& assignment,
                   std::vector<std::string>* paths, Findings& findings) {
  return Override(message, assignment, paths, findings).Apply();
}

bool IsSet(const pb::Message& message, absl::string_view path) {
  const pb::FieldDescriptor* field = nullptr;
  bool set = false;
  return Walk(message, path, &field, &set) != nullptr && set;
}

std::string FieldText(const pb::Message& message, absl::string_view path) {
  const pb::FieldDescriptor* field = nullptr;
  bool set = false;
  const pb::Message* at = Walk(message, path, &field, &set);
  if (at == nullptr) return "";
  pb::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  std::string text;
  if (!field->is_repeated()) {
    printer.PrintFieldValueToString(*at, field, -1, &text);
    return std::string(absl::StripAsciiWhitespace(text));
  }
  std::vector<std::string> parts;
  for (int i = 0; i < at->GetReflection()->FieldSize(*at, field); ++i) {
    printer.PrintFieldValueToString(*at, field, i, &text);
    parts.push_back(std::string(absl::StripAsciiWhitespace(text)));
    if (field->message_type() != nullptr) parts.back() = absl::StrCat("{ ", parts.back(), " }");
  }
  return absl::StrCat("[", absl::StrJoin(parts, ", "), "]");
}

bool ParseBytes(absl::string_view text, int64_t* bytes) {
  size_t unit = text.size();
  while (unit > 0 && absl::ascii_isalpha(text[unit - 1])) --unit;
  const absl::string_view name = text.substr(unit);
  static constexpr struct {
    const char* name;
    double factor;
  } kUnits[] = {{"B", 1},
                {"kB", 1e3},
                {"KB", 1e3},
                {"MB", 1e6},
                {"GB", 1e9},
                {"TB", 1e12},
                {"KiB", 1024.0},
                {"MiB", 1048576.0},
                {"GiB", 1073741824.0},
                {"TiB", 1099511627776.0}};
  double number = 0;
  for (const auto& u : kUnits) {
    if (name != u.name ||
        !absl::SimpleAtod(absl::StripAsciiWhitespace(text.substr(0, unit)), &number))
      continue;
    number *= u.factor;
    if (std::floor(number) != number || std::fabs(number) > 9e18) return false;
    *bytes = static_cast<int64_t>(number);
    return true;
  }
  return false;
}

}  // namespace millrace
