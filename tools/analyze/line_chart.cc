#include "tools/analyze/line_chart.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/analyze/svg_page.h"

namespace millrace {
namespace {

constexpr int kWidth = 880, kTop = 84, kTall = 300, kLeft = 76, kLetter = 7, kBetweenLabels = 16;
constexpr int kColours[] = {0, 2, 3, 4, 5};  // 1 is the pale one of bars
constexpr const char* kDashes[] = {"none", "7 3", "2 3", "9 3 2 3"};

// 1, 2 or 5 times a power of ten, such that `range` has about five of them.
double TickStep(double range) {
  const double raw = range / 5, power = std::pow(10, std::floor(std::log10(raw)));
  for (const double times : {1.0, 2.0, 5.0}) {
    if (times * power >= raw) return times * power;
  }
  return 10 * power;
}

struct Axes {
  double x0 = 0, x1 = 1, y0 = 0, y1 = 1, step = 1;
  int right = kWidth;
  double X(double x) const { return kLeft + 12 + (x - x0) / (x1 - x0) * (right - kLeft - 24); }
  double Y(double y) const { return kTop + kTall - (y - y0) / (y1 - y0) * kTall; }
};

Axes AxesOf(const std::vector<ChartLine>& lines, const std::set<double>& places) {
  Axes a;
  if (!places.empty()) a.x0 = *places.begin(), a.x1 = *places.rbegin();
  if (a.x1 <= a.x0) a.x0 -= 1, a.x1 += 1;
  double low = INFINITY, high = -INFINITY;
  size_t longest = 4;
  for (const ChartLine& line : lines) {
    longest = std::max(longest, SvgLetters(line.label));
    for (const auto& [x, y] : line.points) {
      if (!std::isfinite(y)) continue;
      low = std::min(low, y);
      high = std::max(high, y);
    }
  }
  if (low > high) low = 0, high = 1;
  if (high - low < 1e-9) low -= 0.05, high += 0.05;
  a.step = TickStep(high - low);
  a.y0 = std::floor(low / a.step) * a.step;
  a.y1 = std::ceil(high / a.step) * a.step;
  a.right = kWidth - std::min(kWidth / 3, 28 + kLetter * static_cast<int>(longest));
  return a;
}

void AppendGrid(const Axes& a, const std::set<double>& places, const std::string& x_name,
                const std::string& y_name, std::string* body) {
  const int digits = std::max(0, static_cast<int>(std::ceil(-std::log10(a.step) - 1e-9)));
  const int ticks = static_cast<int>(std::lround((a.y1 - a.y0) / a.step));
  for (int i = 0; i <= ticks; ++i) {
    const double value = a.y0 + i * a.step, y = a.Y(value);
    absl::StrAppendFormat(body,
                          "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
                          "<text class=\"faint\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.*f"
                          "</text>\n",
                          kLeft, a.right, y, y, kLeft - 8, y + 4, digits, value);
  }
  for (const double x : places) {
    absl::StrAppendFormat(body,
                          "<text class=\"faint\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g"
                          "</text>\n",
                          a.X(x), kTop + kTall + 20, x);
  }
  absl::StrAppendFormat(body,
                        "<text class=\"faint\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n"
                        "<text class=\"panel\" x=\"16\" y=\"%d\">%s</text>\n",
                        (kLeft + a.right) / 2, kTop + kTall + 42, SvgEscaped(x_name), kTop - 20,
                        SvgEscaped(y_name));
}

}  // namespace

std::string LineChart(const std::string& title, const std::string& x_name,
                      const std::string& y_name, const std::vector<ChartLine>& lines) {
  std::set<double> places;
  for (const ChartLine& line : lines) {
    for (const auto& point : line.points) places.insert(point.first);
  }
  const Axes a = AxesOf(lines, places);
  std::string body =
      absl::StrCat("<text class=\"title\" x=\"16\" y=\"34\">", SvgEscaped(title), "</text>\n");
  AppendGrid(a, places, x_name, y_name, &body);
  std::vector<std::pair<double, size_t>> ends;  // height of each line's end
  for (size_t i = 0; i < lines.size(); ++i) {
    const int colour = kColours[i % std::size(kColours)];
    std::string path;
    bool gap = true;
    double end = NAN;
    for (const auto& [x, y] : lines[i].points) {
      if (!std::isfinite(y)) {
        gap = true;
        continue;
      }
      absl::StrAppendFormat(&path, "%s%.1f %.1f", gap ? "M" : "L", a.X(x), a.Y(y));
      absl::StrAppendFormat(
          &body,
          "<circle class=\"p%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"><title>%s, %g: %.4f"
          "</title></circle>",
          colour, a.X(x), a.Y(y), SvgEscaped(lines[i].label), x, y);
      gap = false;
      end = a.Y(y);
    }
    if (std::isnan(end)) continue;
    absl::StrAppend(&body, "<path class=\"s", colour, "\" stroke-width=\"2\" stroke-dasharray=\"",
                    kDashes[i % std::size(kDashes)], "\" d=\"", path, "\"/>\n");
    ends.emplace_back(end, i);
  }
  // Names at the ends, one below the other where lines end close together.
  std::sort(ends.begin(), ends.end());
  double free = 0;
  for (const auto& [end, i] : ends) {
    const double y = std::max(end, free);
    free = y + kBetweenLabels;
    absl::StrAppendFormat(&body, "<text class=\"p%d\" x=\"%d\" y=\"%.1f\">%s</text>\n",
                          kColours[i % std::size(kColours)], a.right + 8, y + 4,
                          SvgEscaped(lines[i].label));
  }
  const int height = std::max(kTop + kTall + 60, static_cast<int>(free) + 12);
  return SvgPage(title, kWidth, height, body);
}

}  // namespace millrace
