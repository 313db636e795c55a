// What one pass makes of a step, as text: the listing of the graph before and after it.
//
//   PassText text = TextAround("accumulate", MakeFakeModel(), options);
//   EXPECT_EQ(text.after, R"(...)");
#ifndef MILLRACE_GRAPH_LOWER_TESTING_PASS_TEXT_H_
#define MILLRACE_GRAPH_LOWER_TESTING_PASS_TEXT_H_

#include <string>

#include "graph/lower/listing.h"
#include "graph/lower/lower.h"

namespace millrace {

struct PassText {
  std::string before;
  std::string after;  // the error when lowering failed
};

inline PassText TextAround(absl::string_view pass, const ModelSpec& spec,
                           const LowerOptions& options) {
  PassText text;
  std::string last;
  const auto graph = Lower(spec, options, [&](absl::string_view name, const Graph& g) {
    if (name == pass) {
      text.before = last;
      text.after = Listing(g);
    }
    last = Listing(g);
  });
  if (!graph.ok()) text.after = graph.status().ToString();
  return text;
}

// The lines that contain any of the words, in order.
inline std::string Lines(const std::string& text, const std::vector<std::string>& words) {
  std::string found;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin) + 1;
    const std::string line = text.substr(begin, end - begin);
    for (const std::string& word : words) {
      if (line.find(word) == std::string::npos) continue;
      found += line;
      break;
    }
    begin = end;
  }
  return found;
}

}  // namespace millrace

#endif  // MILLRACE_GRAPH_LOWER_TESTING_PASS_TEXT_H_
