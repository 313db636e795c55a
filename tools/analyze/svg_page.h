// What the charts share: one SVG file without scripts, fonts or links, whose colours follow the viewer's setting, light
// or dark.
//
//   SvgPage("title", 880, 300, "<line class=\"axis\" .../>");
//
// Classes for the body: title, panel, faint (text); paper, axis; p0 ... p5 (fills) and s0 ... s5 (strokes).
#ifndef MILLRACE_TOOLS_ANALYZE_SVG_PAGE_H_
#define MILLRACE_TOOLS_ANALYZE_SVG_PAGE_H_

#include <cstddef>
#include <string>

namespace millrace {

inline constexpr int kSvgColours = 6;

std::string SvgPage(const std::string& title, int width, int height, const std::string& body);

// The bytes that XML takes, with its own marks escaped.
std::string SvgEscaped(const std::string& text);
size_t SvgLetters(const std::string& utf8);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_ANALYZE_SVG_PAGE_H_
