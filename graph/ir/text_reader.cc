#include "graph/ir/text_reader.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "graph/ir/text_lexer.h"

namespace millrace {
namespace pb = google::protobuf;
namespace {

bool IntegerFits(absl::string_view text, bool negative, bool wide) {
  uint64_t magnitude = 0;
  const uint64_t limit = (wide ? uint64_t{1} << 63 : uint64_t{1} << 31) - (negative ? 0 : 1);
  return pb::io::Tokenizer::ParseInteger(std::string(text), limit, &magnitude);
}

class Scanner {
 public:
  Scanner(absl::string_view text, const pb::Descriptor& root, TextLocations* locations,
          Findings& findings)
      : text_(text),
        blanked_(text),
        root_(root),
        lexer_(text),
        locations_(locations),
        findings_(findings) {
    token_ = lexer_.Next();
  }

  // The text without what was wrong.
  std::string Run() {
    ScanMessage(root_, "", Token{});
    return std::move(blanked_);
  }

 private:
  void Advance() {
    previous_end_ = token_.end;
    token_ = lexer_.Next();
  }
  bool At(absl::string_view symbol) const {
    return token_.kind == Token::kSymbol && token_.text == symbol;
  }
  bool Take(absl::string_view symbol) {
    if (!At(symbol)) return false;
    Advance();
    return true;
  }

  void Add(const char* check, size_t offset, std::string message, std::string suggestion = "") {
    Finding f;
    f.check = check;
    f.message = std::move(message);
    f.suggestion = std::move(suggestion);
    f.file = locations_->file;
    std::tie(f.line, f.column) = lexer_.Place(offset);
    findings_.Add(std::move(f));
  }

  void Blank(size_t begin, size_t end) {
    for (size_t i = begin; i < end && i < blanked_.size(); ++i) {
      if (blanked_[i] != '\n') blanked_[i] = ' ';
    }
  }

  std::string Found() const {
    if (token_.kind == Token::kEnd) return "the end of the file";
    if (token_.kind == Token::kUnterminated) return "a string without its closing quote";
    return absl::StrCat("'", token_.text, "'");
  }

  static std::string Join(const std::string& path, const std::string& name) {
    return path.empty() ? name : absl::StrCat(path, ".", name);
  }

  // Fields up to the closing brace (which is taken) or, for the root, the end. `open` is the opening brace.
  void ScanMessage(const pb::Descriptor& type, const std::string& path, Token open) {
    absl::flat_hash_map<std::string, int> count;
    absl::flat_hash_map<const pb::OneofDescriptor*, std::string> oneofs;
    const bool nested = open.kind == Token::kSymbol;
    while (true) {
      if (token_.kind == Token::kEnd) {
        if (nested) {
          Add("syntax", open.begin, absl::StrCat("'", open.text, "' is not closed"),
              absl::StrCat("add '", open.text == "{" ? "}" : ">", "'"));
          blanked_ += open.text == "{" ? "\n}" : "\n>";
        }
        break;
      }
      if (At("}") || At(">")) {
        const bool fits = nested && At(open.text == "{" ? "}" : ">");
        if (!fits) {
          Add("syntax", token_.begin, absl::StrCat("'", token_.text, "' closes nothing"),
              "take it out");
          Blank(token_.begin, token_.end);
        }
        Advance();
        if (fits) break;
        continue;
      }
      if (token_.kind != Token::kIdentifier) {
        Add("syntax", token_.begin, absl::StrCat("expected a field name, found ", Found()));
        Blank(token_.begin, token_.end);
        Advance();
        continue;
      }
      ScanField(type, path, count, oneofs);
    }
    for (int i = 0; i < type.field_count(); ++i) {
      const pb::FieldDescriptor& field = *type.field(i);
      if (field.is_required() && count[field.name()] == 0 &&
          !locations_->IsSuspect(Join(path, field.name()))) {
        const SourceLocation at = locations_->Find(path);
        Finding f;
        f.check = "missing_field";
        f.message =
            absl::StrCat(path, " has no '", field.name(), "', expected ", ExpectedValue(field));
        f.file = at.file;
        f.line = at.line;
        f.column = at.column;
        findings_.Add(std::move(f));
      }
    }
  }

  void ScanField(const pb::Descriptor& type, const std::string& path,
                 absl::flat_hash_map<std::string, int>& count,
                 absl::flat_hash_map<const pb::OneofDescriptor*, std::string>& oneofs) {
    const size_t begin = token_.begin;
    const std::string name(token_.text);
    Advance();
    const pb::FieldDescriptor* field = type.FindFieldByName(name);
    if (field == nullptr) {
      const std::string near = Nearest(name, FieldNames(type));
      if (!near.empty()) locations_->AddSuspect(Join(path, near));
      const std::string elsewhere = FindField(name, root_);
      if (!elsewhere.empty()) locations_->AddSuspect(elsewhere);
      Add("unknown_field", begin,
          absl::StrCat("unknown field '", name, "'",
                       path.empty() ? "" : absl::StrCat(" in '", path, "'"), ", expected one of ",
                       absl::StrJoin(FieldNames(type), ", ")),
          SuggestField(name, type, root_));
      SkipValue();
      Blank(begin, previous_end_);
      TakeSeparator();
      return;
    }
    std::string own = Join(path, name);
    if (field->is_repeated()) {
      absl::StrAppend(&own, "[", count[name], "]");
    } else if (count[name] > 0) {
      const SourceLocation first = locations_->Find(own);
      Add("duplicate_field", begin,
          absl::StrCat("'", own, "' is set twice, first in line ", first.line),
          "take one of them out");
      SkipValue();
      Blank(begin, previous_end_);
      TakeSeparator();
      return;
    }
    if (const pb::OneofDescriptor* oneof = field->containing_oneof(); oneof != nullptr) {
      const auto [it, fresh] = oneofs.emplace(oneof, name);
      if (!fresh) {
        Add("duplicate_field", begin,
            absl::StrCat("'", own, "' is set beside '", it->second, "', expected one of them"),
            "take one of them out");
        SkipValue();
        Blank(begin, previous_end_);
        TakeSeparator();
        return;
      }
    }
    Record(own, begin);
    const bool message = field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE;
    const bool colon = Take(":");
    if (At("[") && field->is_repeated()) {
      Advance();
      const int before = count[name];
      bool good = true;
      while (!At("]") && token_.kind != Token::kEnd) {
        const std::string element = absl::StrCat(Join(path, name), "[", count[name], "]");
        Record(element, token_.begin);
        good &= ScanValue(*field, element, token_.begin);
        ++count[name];
        if (!Take(",")) break;
      }
      if (!Take("]")) {
        Add("syntax", token_.begin,
            absl::StrCat("expected ',' or ']' in the list of '", Join(path, name), "', found ",
                         Found()));
        while (!At("]") && !At("}") && token_.kind != Token::kEnd) Advance();
        Take("]");
        good = false;
      }
      if (!good) {  // the list goes as a whole
        Blank(begin, previous_end_);
        count[name] = before;
      }
    } else if (!colon && !message) {
      if (At("{") || At("<")) {
        Add("syntax", begin,
            absl::StrCat("'", own, "' is no message, expected ", ExpectedValue(*field)),
            absl::StrCat("write ", name, ": ..."));
      } else {
        Add("syntax", token_.begin,
            absl::StrCat("expected ':' after '", name, "', found ", Found()));
      }
      if (!field->is_repeated()) ++count[name];
      locations_->AddSuspect(own);
      if (token_.kind != Token::kIdentifier || !lexer_.OnOtherLine(previous_end_, token_.begin))
        SkipValue();
      Blank(begin, previous_end_);
    } else {
      ++count[name];
      if (!ScanValue(*field, own, begin)) {
        Blank(begin, previous_end_);
        if (field->is_repeated()) --count[name];
      }
    }
    TakeSeparator();
  }

  void Record(const std::string& path, size_t offset) {
    const auto [line, column] = lexer_.Place(offset);
    locations_->Set(path, line, column);
  }

  void TakeSeparator() {
    if (!Take(",")) Take(";");
  }

  // One value of `field`. False: it was wrong, a finding was added and the value skipped. Findings inside a
  // nested message blank themselves and do not count.
  bool ScanValue(const pb::FieldDescriptor& field, const std::string& path, size_t field_begin) {
    const Token value = token_;
    if (field.cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE) {
      if (At("{") || At("<")) {
        Advance();
        ScanMessage(*field.message_type(), path, value);
        return true;
      }
      Add("syntax", field_begin,
          absl::StrCat("'", path, "' is a message, expected '{', found ", Found()),
          absl::StrCat("write ", field.name(), " { ... }"));
      locations_->AddSuspect(path);
      SkipValue();
      return false;
    }
    const bool negative = Take("-");
    const Token word = token_;
    bool good = false;
    std::string help;
    const char* check = "value_type";
    switch (field.cpp_type()) {
      case pb::FieldDescriptor::CPPTYPE_INT32:
      case pb::FieldDescriptor::CPPTYPE_INT64:
        good = word.kind == Token::kNumber &&
               IntegerFits(word.text, negative,
                           field.cpp_type() == pb::FieldDescriptor::CPPTYPE_INT64);
        break;
      case pb::FieldDescriptor::CPPTYPE_DOUBLE:
      case pb::FieldDescriptor::CPPTYPE_FLOAT: {
        double ignored;
        const std::string lower = absl::AsciiStrToLower(word.text);
        good = word.kind == Token::kNumber
                   ? absl::SimpleAtod(absl::StripSuffix(lower, "f"), &ignored) ||
                         IntegerFits(word.text, negative, true)
                   : word.kind == Token::kIdentifier &&
                         (lower == "inf" || lower == "infinity" || lower == "nan");
        break;
      }
      case pb::FieldDescriptor::CPPTYPE_BOOL:
        good = !negative && (word.text == "true" || word.text == "false" || word.text == "True" ||
                             word.text == "False" || word.text == "t" || word.text == "f" ||
                             word.text == "0" || word.text == "1");
        if (!good) help = DidYouMean(word.text, {"true", "false"});
        break;
      case pb::FieldDescriptor::CPPTYPE_ENUM:
        good = !negative && word.kind == Token::kIdentifier &&
               field.enum_type()->FindValueByName(std::string(word.text)) != nullptr;
        if (!good) {
          check = "unknown_value";
          help = DidYouMean(
              word.kind == Token::kString ? word.text.substr(1, word.text.size() - 2) : word.text,
              ValueNames(*field.enum_type()));
        }
        break;
      case pb::FieldDescriptor::CPPTYPE_STRING:
        good = !negative && word.kind == Token::kString;
        if (!good && word.kind == Token::kIdentifier) {
          help = absl::StrCat("write \"", word.text, "\"");
        }
        break;
      default:
        good = true;
    }
    if (!good) {
      const bool nothing = word.kind == Token::kEnd || word.kind == Token::kSymbol;
      Add(nothing ? "syntax" : check, nothing ? field_begin : value.begin,
          absl::StrCat(
              "'", path, "' is ", nothing ? "followed by " : "", negative ? "-" : "",
              nothing || word.kind == Token::kUnterminated ? Found() : std::string(word.text),
              ", expected ", ExpectedValue(field)),
          std::move(help));
      locations_->AddSuspect(path);
      SkipValue();
      return false;
    }
    Advance();
    if (word.kind == Token::kString) {
      while (token_.kind == Token::kString) Advance();  // adjacent strings are one
    }
    return true;
  }

  // Whatever follows a field name: ": value", "{ ... }", "[ ... ]". Never takes a closing brace around it.
  void SkipValue() {
    Take(":");
    Take("-");
    if (At("{") || At("<") || At("[")) {
      int depth = 0;
      do {
        if (At("{") || At("<") || At("[")) ++depth;
        if (At("}") || At(">") || At("]")) --depth;
        Advance();
      } while (depth > 0 && token_.kind != Token::kEnd);
      return;
    }
    if (token_.kind == Token::kString) {
      while (token_.kind == Token::kString) Advance();
    } else if (token_.kind != Token::kEnd && token_.kind != Token::kSymbol) {
      Advance();
    }
  }

  absl::string_view text_;
  std::string blanked_;
  const pb::Descriptor& root_;
  TextLexer lexer_;
  Token token_;
  size_t previous_end_ = 0;
  TextLocations* locations_;
  Findings& findings_;
};

// What the scan lets pass and the parser does not.
class RestOfErrors : public pb::io::ErrorCollector {
 public:
  RestOfErrors(const std::string& file, Findings& findings) : file_(file), findings_(findings) {}
  void AddError(int line, pb::io::ColumnNumber column, const std::string& message) override {
    Finding f;
    f.check = "syntax";
    f.message = message;
    f.file = file_;
    f.line = line + 1;
    f.column = column + 1;
    findings_.Add(std::move(f));
  }

 private:
  const std::string& file_;
  Findings& findings_;
};

}  // namespace

bool ReadText(absl::string_view text, const std::string& file, pb::Message* message,
              TextLocations* locations, Findings& findings) {
  Findings own;
  locations->file = file;
  const std::string good = Scanner(text, *message->GetDescriptor(), locations, own).Run();
  RestOfErrors rest(file, own);
  pb::TextFormat::Parser parser;
  parser.AllowPartialMessage(true);  // the scan has reported what is missing
  parser.RecordErrorsTo(&rest);
  if (!parser.ParseFromString(good, message) && own.ok())
    rest.AddError(0, 0, "cannot be read as protobuf text");
  findings.Append(own);
  return own.ok();
}

}  // namespace millrace
