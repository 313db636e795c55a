// The pictures: what is in them, and that Graphviz draws them.

#include "graph/trace/dot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "graph/trace/test_plan.h"

namespace millrace {
namespace {

using testing::HasSubstr;

// The SVG that Graphviz makes of it; fails the test when it refuses.
std::string Render(const std::string& dot) {
  const std::string file = testing::TempDir() + "picture";
  std::ofstream(file + ".dot") << dot;
  EXPECT_EQ(std::system(("dot -Tsvg " + file + ".dot > " + file + ".svg").c_str()), 0);
  std::ostringstream svg;
  svg << std::ifstream(file + ".svg").rdbuf();
  return svg.str();
}

bool HaveGraphviz() { return std::system("dot -V > /dev/null 2>&1") == 0; }

TEST(DotTest, APlanHasAClusterPerLaneAndOneEdgePerPairOfNodes) {
  const std::string dot = PlanDot(TracePlan());
  EXPECT_THAT(dot, HasSubstr("label=\"ranks 0, 1\""));
  EXPECT_THAT(dot, HasSubstr("label=\"comm:data\""));
  EXPECT_THAT(dot, HasSubstr("label=\"a\\nforward\\n1.000 ms\""));
  EXPECT_THAT(dot, HasSubstr("tooltip=\"only \\\"ready\\\" node\""));
  EXPECT_THAT(dot, HasSubstr("r0n1 -> r0n2 [color=\"#2171b5\",penwidth=2,tooltip=\"async\"]"));
  EXPECT_THAT(dot, HasSubstr("r0n0 -> r0n1 [color=\"#333333\",tooltip=\"data\"]"));
  EXPECT_THAT(dot, HasSubstr("r0n1 -> r0n3 [color=\"#bbbbbb\",weight=10,tooltip=\"lane\"]"));
  EXPECT_THAT(dot, HasSubstr("r0n0 -> r0n4 [color=\"#238b45\",style=dashed,tooltip=\"credit\"]"));
}

TEST(DotTest, AGraphShowsTheValuesBetweenItsNodes) {
  const std::string dot = GraphDot(TracePlan().graph);
  EXPECT_THAT(dot, HasSubstr("digraph \"step \\\"one\\\"\""));
  EXPECT_THAT(dot, HasSubstr("n0 -> n1 [label=\"va\""));
  EXPECT_THAT(dot, HasSubstr("n1 -> n2 [color=\"#2171b5\""));
  EXPECT_THAT(dot, HasSubstr("n4 [label=\"c\\nback\\\\slash\""));
}

TEST(DotTest, GraphvizDrawsBoth) {
  if (!HaveGraphviz()) GTEST_SKIP() << "Graphviz is not installed";
  const std::string plan = Render(PlanDot(TracePlan()));
  EXPECT_THAT(plan, HasSubstr("gather.done"));
  EXPECT_THAT(plan, HasSubstr("longest tail"));
  EXPECT_THAT(plan, HasSubstr("back\\slash"));
  EXPECT_THAT(Render(GraphDot(TracePlan().graph)), HasSubstr("gather.start"));
}

}  // namespace
}  // namespace millrace
