// Lines over a few places of an axis as one SVG file (svg_page.h): a line per series, its points marked, told apart by
// colour, by dashes and by its name at its end.
//
//   LineChart("dice over image size", "image size", "dice", {{"rose", {{128, 0.91}, {256, 0.94}}}});
#ifndef MILLRACE_TOOLS_ANALYZE_LINE_CHART_H_
#define MILLRACE_TOOLS_ANALYZE_LINE_CHART_H_

#include <string>
#include <utility>
#include <vector>

namespace millrace {

struct ChartLine {
  std::string label;
  std::vector<std::pair<double, double>>
      points;  // by ascending x; values that are not finite are gaps
};

// Ticks stand at every x that a line has.
std::string LineChart(const std::string& title, const std::string& x_name,
                      const std::string& y_name, const std::vector<ChartLine>& lines);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_ANALYZE_LINE_CHART_H_
