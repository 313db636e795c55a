#include "tools/analyze/bar_chart.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/analyze/svg_page.h"

namespace millrace {
namespace {

constexpr int kWidth = 880, kRow = 24, kBar = 16, kLetter = 7, kNumber = 150;

double Sum(const ChartBar& bar) {
  double sum = 0;
  for (const double p : bar.parts) sum += std::isfinite(p) && p > 0 ? p : 0;
  return sum;
}

}  // namespace

std::string BarChart(const std::string& title, const std::vector<ChartPanel>& panels) {
  size_t longest = 8;
  for (const ChartPanel& p : panels) {
    for (const ChartBar& b : p.bars) longest = std::max(longest, SvgLetters(b.label));
  }
  const int left = std::min(kWidth / 2, 24 + kLetter * static_cast<int>(longest));
  std::string body;
  int y = 34;
  absl::StrAppend(&body, "<text class=\"title\" x=\"16\" y=\"", y, "\">", SvgEscaped(title),
                  "</text>\n");
  for (const ChartPanel& panel : panels) {
    y += 38;
    absl::StrAppend(&body, "<text class=\"panel\" x=\"16\" y=\"", y, "\">", SvgEscaped(panel.title),
                    " <tspan class=\"faint\">(", SvgEscaped(panel.unit), ")</tspan></text>\n");
    int x = left;
    for (size_t i = 0; i < panel.part_names.size() && panel.part_names.size() > 1; ++i) {
      const int at = std::max(
          x, 40 + kLetter * static_cast<int>(SvgLetters(panel.title) + panel.unit.size() + 6));
      absl::StrAppend(&body, "<rect class=\"p", i, "\" x=\"", at, "\" y=\"", y - 10,
                      "\" width=\"10\" height=\"10\"/>", "<text class=\"faint\" x=\"", at + 15,
                      "\" y=\"", y, "\">", SvgEscaped(panel.part_names[i]), "</text>\n");
      x = at + 40 + kLetter * static_cast<int>(SvgLetters(panel.part_names[i]));
    }
    y += 10;
    double most = 0;
    for (const ChartBar& b : panel.bars) most = std::max(most, Sum(b));
    const double scale = most > 0 ? (kWidth - left - kNumber) / most : 0;
    const int top = y;
    for (const ChartBar& bar : panel.bars) {
      absl::StrAppend(&body, "<text x=\"", left - 8, "\" y=\"", y + kBar - 2,
                      "\" text-anchor=\"end\">", SvgEscaped(bar.label), "</text>");
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
                              SvgEscaped(panel.part_names.empty() ? "" : panel.part_names[0]),
                              panel.digits, bar.parts[0]);
      absl::StrAppend(&body, "</text>\n");
      y += kRow;
    }
    absl::StrAppend(&body, "<line class=\"axis\" x1=\"", left, "\" x2=\"", left, "\" y1=\"",
                    top - 3, "\" y2=\"", y - 4, "\"/>\n");
  }
  const int height = y + 16;
  return SvgPage(title, kWidth, height, body);
}

}  // namespace millrace
