// Bars as one SVG file without scripts, fonts or links: panels below each other, a row per bar with its label and its
// number, so that nothing is told by length or colour alone. Light and dark follow the viewer's setting.
//
//   BarChart("digits_vit", {{"Throughput", "samples/s", 1, {{"DDP", {3637}}, {"ZeRO-3", {2889}}}, {}}});
#ifndef MILLRACE_TOOLS_ANALYZE_BAR_CHART_H_
#define MILLRACE_TOOLS_ANALYZE_BAR_CHART_H_

#include <string>
#include <vector>

namespace millrace {

struct ChartBar {
  std::string label;
  std::vector<double> parts;  // stacked; the number beside the bar is their sum
};

struct ChartPanel {
  std::string title, unit;
  int digits = 1;  // of the numbers
  std::vector<ChartBar> bars;
  std::vector<std::string> part_names;  // a legend, when there is more than one part
};

std::string BarChart(const std::string& title, const std::vector<ChartPanel>& panels);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_ANALYZE_BAR_CHART_H_
