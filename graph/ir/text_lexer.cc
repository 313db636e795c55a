#include "graph/ir/text_lexer.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace millrace {

TextLexer::TextLexer(absl::string_view text) : text_(text) {
  line_starts_.push_back(0);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') line_starts_.push_back(i + 1);
  }
}

Token TextLexer::Next() {
  while (at_ < text_.size()) {
    if (absl::ascii_isspace(text_[at_])) {
      ++at_;
    } else if (text_[at_] == '#') {
      while (at_ < text_.size() && text_[at_] != '\n') ++at_;
    } else {
      break;
    }
  }
  Token token;
  token.begin = at_;
  auto more = [&](auto accept) {
    while (at_ < text_.size() && accept(text_[at_])) ++at_;
  };
  auto word = [](char c) { return absl::ascii_isalnum(c) || c == '_'; };
  if (at_ >= text_.size()) {
    token.kind = Token::kEnd;
  } else if (const char c = text_[at_]; absl::ascii_isalpha(c) || c == '_') {
    token.kind = Token::kIdentifier;
    more(word);
  } else if (absl::ascii_isdigit(c) ||
             (c == '.' && at_ + 1 < text_.size() && absl::ascii_isdigit(text_[at_ + 1]))) {
    token.kind = Token::kNumber;
    char before = 0;
    const bool hex = text_.substr(at_, 2) == "0x" || text_.substr(at_, 2) == "0X";
    more([&](char d) {
      const bool sign = (d == '+' || d == '-') && (before == 'e' || before == 'E') && !hex;
      before = d;
      return absl::ascii_isalnum(d) || d == '.' || d == '_' || sign;
    });
  } else if (c == '"' || c == '\'') {
    token.kind = Token::kUnterminated;
    for (++at_; at_ < text_.size() && text_[at_] != '\n'; ++at_) {
      if (text_[at_] == '\\' && at_ + 1 < text_.size() && text_[at_ + 1] != '\n') {
        ++at_;
      } else if (text_[at_] == c) {
        ++at_;
        token.kind = Token::kString;
        break;
      }
    }
  } else {
    token.kind = Token::kSymbol;
    ++at_;
  }
  token.end = at_;
  token.text = text_.substr(token.begin, token.end - token.begin);
  return token;
}

std::pair<int, int> TextLexer::Place(size_t offset) const {
  const auto next = std::upper_bound(line_starts_.begin(), line_starts_.end(), offset);
  const int line = static_cast<int>(next - line_starts_.begin());
  return {line, static_cast<int>(offset - *(next - 1)) + 1};
}

}  // namespace millrace
