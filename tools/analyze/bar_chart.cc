#include "tools/analyze/bar_chart.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace millrace {
namespace {

constexpr int kWidth = 880, kRow = 24, kBar = 16, kLetter = 7, kNumber = 150;

constexpr char kStyle[] =
    "<style>\n"
    "  svg { --paper: #ffffff; --ink: #1f2328; --faint: #59636e; --line: #d1d9e0; --p0: #0969da; "
    "--p1: #9ec5f0; }\n"
    "  @media (prefers-color-scheme: dark) {\n"
    "    svg { --paper: #0d1117; --ink: #e6edf3; --faint: #9198a1; --line: #3d444d; --p0: #58a6ff; "
    "--p1: #1f4b7d; }\n"
    "  }\n"
    "  text { font: 13px system-ui, sans-serif; fill: var(--ink); }\n"
    "  .title { font-size: 17px; font-weight: 600; } .panel { font-weight: 600; } .faint { fill: "
    "var(--faint); }\n"
    "  .paper { fill: var(--paper); } .axis { stroke: var(--line); } .p0 { fill: var(--p0); } .p1 "
    "{ fill: var(--p1); }\n"
    "</style>\n";

// The bytes that XML takes, with its own marks escaped.
std::string Escaped(const std::string& text) {
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

double Sum(const ChartBar& bar) {
  double sum = 0;
  for (const double p : bar.parts) sum += std::isfinite(p) && p > 0 ? p : 0;
  return sum;
}

size_t Letters(const std::string& utf8) {
  return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

}  // namespace

std::string BarChart(const std::string& title, const std::vector<ChartPanel>& panels) {
  size_t longest = 8;
  for (const ChartPanel& p : panels) {
    for (const ChartBar& b : p.bars) longest = std::max(longest, Letters(b.label));
  }
  const int left = std::min(kWidth / 2, 24 + kLetter * static_cast<int>(longest));
  std::string body;
  int y = 34;
  absl::StrAppend(&body, "<text class=\"title\" x=\"16\" y=\"", y, "\">", Escaped(title),
                  "</text>\n");
  for (const ChartPanel& panel : panels) {
    y += 38;
    absl::StrAppend(&body, "<text class=\"panel\" x=\"16\" y=\"", y, "\">", Escaped(panel.title),
                    " <tspan class=\"faint\">(", Escaped(panel.unit), ")</tspan></text>\n");
    int x = left;
    for (size_t i = 0; i < panel.part_names.size() && panel.part_names.size() > 1; ++i) {
      const int at = std::max(
          x, 40 + kLetter * static_cast<int>(Letters(panel.title) + panel.unit.size() + 6));
      absl::StrAppend(&body, "<rect class=\"p", i, "\" x=\"", at, "\" y=\"", y - 10,
                      "\" width=\"10\" height=\"10\"/>", "<text class=\"faint\" x=\"", at + 15,
                      "\" y=\"", y, "\">", Escaped(panel.part_names[i]), "</text>\n");
      x = at + 40 + kLetter * static_cast<int>(Letters(panel.part_names[i]));
    }
    y += 10;
    double most = 0;
    for (const ChartBar& b : panel.bars) most = std::max(most, Sum(b));
    const double scale = most > 0 ? (kWidth - left - kNumber) / most : 0;
    const int top = y;
    for (const ChartBar& bar : panel.bars) {
      absl::StrAppend(&body, "<text x=\"", left - 8, "\" y=\"", y + kBar - 2,
                      "\" text-anchor=\"end\">", Escaped(bar.label), "</text>");
      double at = left;
      for (size_t i = 0; i < bar.parts.size(); ++i) {
        const double width =
            std::max(0.0, std::isfinite(bar.parts[i]) ? bar.parts[i] * scale : 0.0);
        absl::StrAppendFormat(
            &body, "<rect class=\"p%d\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>",
            static_cast<int>(i % 2), at, y, width, kBar);
        at += width;
      }
      absl::StrAppendFormat(&body, "<text x=\"%.1f\" y=\"%d\">%.*f", at + 6, y + kBar - 2,
                            panel.digits, Sum(bar));
      if (bar.parts.size() > 1)
        absl::StrAppendFormat(&body, " <tspan class=\"faint\">(%s %.*f)</tspan>",
                              Escaped(panel.part_names.empty() ? "" : panel.part_names[0]),
                              panel.digits, bar.parts[0]);
      absl::StrAppend(&body, "</text>\n");
      y += kRow;
    }
    absl::StrAppend(&body, "<line class=\"axis\" x1=\"", left, "\" x2=\"", left, "\" y1=\"",
                    top - 3, "\" y2=\"", y - 4, "\"/>\n");
  }
  const int height = y + 16;
  return absl::StrCat("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", kWidth, " ",
                      height, "\" role=\"img\"", " aria-label=\"", Escaped(title), "\">\n", kStyle,
                      "<rect class=\"paper\" width=\"", kWidth, "\" height=\"", height, "\"/>\n",
                      body, "</svg>\n");
}

}  // namespace millrace
