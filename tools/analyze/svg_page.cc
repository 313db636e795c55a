#include "tools/analyze/svg_page.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"

namespace millrace {
namespace {

struct Palette {
  const char *paper, *ink, *faint, *line;
  std::array<const char*, kSvgColours> colours;
};
constexpr Palette kLight = {"#ffffff",
                            "#1f2328",
                            "#59636e",
                            "#d1d9e0",
                            {"#0969da", "#9ec5f0", "#bc4c00", "#1a7f37", "#8250df", "#bf3989"}};
constexpr Palette kDark = {"#0d1117",
                           "#e6edf3",
                           "#9198a1",
                           "#3d444d",
                           {"#58a6ff", "#1f4b7d", "#f0883e", "#3fb950", "#a371f7", "#f778ba"}};

std::string Variables(const Palette& p) {
  std::string out = absl::StrCat("svg { --paper: ", p.paper, "; --ink: ", p.ink,
                                 "; --faint: ", p.faint, "; --line: ", p.line, ";");
  for (int i = 0; i < kSvgColours; ++i) {
    absl::StrAppend(&out, " --p", i, ": ", p.colours[static_cast<size_t>(i)], ";");
  }
  return out + " }";
}

std::string Style() {
  std::string out = absl::StrCat(
      "<style>\n  ", Variables(kLight), "\n  @media (prefers-color-scheme: dark) {\n    ",
      Variables(kDark),
      "\n  }\n"
      "  text { font: 13px system-ui, sans-serif; fill: var(--ink); }\n"
      "  .title { font-size: 17px; font-weight: 600; } .panel { font-weight: 600; } .faint { fill: "
      "var(--faint); }\n"
      "  .paper { fill: var(--paper); } .axis { stroke: var(--line); }\n ");
  for (int i = 0; i < kSvgColours; ++i) {
    absl::StrAppend(&out, " .p", i, " { fill: var(--p", i, "); } .s", i, " { stroke: var(--p", i,
                    "); fill: none; }");
  }
  return out + "\n</style>\n";
}

}  // namespace

std::string SvgPage(const std::string& title, int width, int height, const std::string& body) {
  return absl::StrCat("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", width, " ",
                      height, "\" role=\"img\"", " aria-label=\"", SvgEscaped(title), "\">\n",
                      Style(), "<rect class=\"paper\" width=\"", width, "\" height=\"", height,
                      "\"/>\n", body, "</svg>\n");
}

std::string SvgEscaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

size_t SvgLetters(const std::string& utf8) {
  return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

}  // namespace millrace
