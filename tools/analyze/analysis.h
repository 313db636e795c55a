// What a trace says about a run: where each rank's time went, which communication nothing hid, why lanes stood idle,
// who was late, what the step's length hangs on, how well stages used the machine, and how far the prediction was
// off. All times are nanoseconds as the trace has them; nothing is rounded before it is printed.
//
//   ASSIGN_OR_RETURN(std::vector<TraceFile> files, ReadChromeTrace(text, path));
//   Analysis a = Analyze(files[0].trace, /*predicted=*/nullptr);
//   std::cerr << AnalysisText(a);  AnalysisJson(a).dump();
//
// Medians are the upper ones: element n / 2 of n sorted values.
#ifndef MILLRACE_TOOLS_ANALYZE_ANALYSIS_H_
#define MILLRACE_TOOLS_ANALYZE_ANALYSIS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "graph/trace/breakdown.h"
#include "graph/trace/trace.h"
#include "tools/analyze/critical_path.h"

namespace millrace {

struct StepTime {
  int64_t step = 0;
  int64_t ns = 0;
  std::vector<RankTime> ranks;
};

// All spans of one node, over ranks and steps.
struct NodeTime {
  std::string name, op;
  SpanClass what = SpanClass::kCompute;
  int64_t stage = -1;
  int64_t count = 0;
  int64_t total_ns = 0;
  int64_t median_ns = 0;
  int64_t exposed_ns = 0;  // communication that nothing hid; sum
  // Collectives: from the last rank's arrival to a rank's end. Else as median_ns.
  int64_t work_median_ns = 0;
  int64_t predicted_ns = -1;  // work_median_ns of the predicted trace; -1: none
};

// Who was late in a step. A rank arrives at a collective when its part of it begins.
struct StepLate {
  int64_t step = 0;
  int slowest_rank = -1;        // by compute
  int64_t slowest_ns = 0;       // its compute
  int64_t mean_compute_ns = 0;  // over all ranks
  int last_rank = -1;           // most often the last at a collective; -1: all arrive together
  int64_t times_last = 0;
};

struct RankLate {
  int rank = 0;
  int64_t times_last = 0;  // alone
  int64_t waited_ns = 0;   // for the last one to arrive, sum over collectives
  int64_t caused_ns = 0;   // waiting of all others for this one
};

struct StageUse {
  int64_t stage = 0;
  std::string name;
  int64_t flops = 0;         // of one rank and step
  int64_t ns = 0;            // mean over ranks and steps
  double share_of_peak = 0;  // model FLOPs utilisation while the stage runs; 0: peak not known
};

// A part of the critical path, with its node's name.
struct PathNode {
  PathPart part;
  std::string node;  // "" after the last one
  SpanClass what = SpanClass::kCompute;
};

struct Analysis {
  std::string title, plan_hash, machine;
  bool predicted = false;
  int world_size = 1;
  int64_t dropped = 0;
  double peak_flops_per_second = 0;
  Breakdown breakdown;  // sums over steps
  std::vector<StepTime> steps;
  int64_t step_median_ns = 0;
  std::vector<NodeTime> nodes;  // by id
  int64_t collectives = 0;      // joined, per step
  std::vector<StepLate> late_by_step;
  std::vector<RankLate> late_by_rank;
  int64_t path_step = 0;  // the step of median length
  std::vector<PathNode> path;
  std::vector<StageUse> stages;
  double share_of_peak = 0;  // of the stages' FLOPs in the median step
  int64_t predicted_step_ns = -1;

  // Sums over ranks, as shares of steps x ranks.
  double CommunicationShare() const;
  double ExposedShare() const;
  double Overlap() const;  // share of communication that compute hid; 0 when there is none
};

// `predicted` may be null. A trace without whole steps gives zeros.
Analysis Analyze(const Trace& trace, const Trace* predicted);

// "compute", "communication", "copy", "issue", "host".
std::string ClassName(SpanClass what);

// `top`: how many nodes each list shows at most.
std::string AnalysisText(const Analysis& analysis, int top = 8);
nlohmann::ordered_json AnalysisJson(const Analysis& analysis);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_ANALYZE_ANALYSIS_H_
