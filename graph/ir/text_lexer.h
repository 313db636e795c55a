// Tokens of protobuf text with their byte offsets, for text_reader.cc. (Protocol Buffers' tokenizer widens tabs,
// stops at errors and gives no offsets.)
#ifndef MILLRACE_GRAPH_IR_TEXT_LEXER_H_
#define MILLRACE_GRAPH_IR_TEXT_LEXER_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace millrace {

struct Token {
  // kUnterminated: a string that reaches the end of its line.
  enum Kind { kEnd, kIdentifier, kNumber, kString, kSymbol, kUnterminated };
  Kind kind = kEnd;
  size_t begin = 0;
  size_t end = 0;
  absl::string_view text;
};

class TextLexer {
 public:
  explicit TextLexer(absl::string_view text);
  Token Next();
  // Line and column of a byte, both from 1; columns count bytes.
  std::pair<int, int> Place(size_t offset) const;
  bool OnOtherLine(size_t a, size_t b) const { return Place(a).first != Place(b).first; }

 private:
  absl::string_view text_;
  size_t at_ = 0;
  std::vector<size_t> line_starts_;
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_IR_TEXT_LEXER_H_
