// The report's numbers as one JSON object, which page/ draws. Times are whole
// nanoseconds from the start of the step. What there is one of for every node, span or step is an object of
// parallel arrays, which is a third of the size of an array of objects.
//
//   summary    hash, machine, step and communication times, peak, bound and budget per tier
//   nodes      name, op, family (index into families), stage, role (1 start, 2 done), bytes, flops
//   plans      per rank plan: lanes, reason per node, memory curves by kind, life of every buffer
//   predicted  groups: ranks that do the same at the same time are one; spans, exposed communication
//   critical   the critical path's nodes
//   measured   steps, per node its median over all of them, spans of the steps that are shown
//   metrics    loss, lr, ... per step; evaluations
//   config, checks, command, notes (what was left out)
#ifndef MILLRACE_TOOLS_REPORT_REPORT_DATA_H_
#define MILLRACE_TOOLS_REPORT_REPORT_DATA_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/report/report.h"

namespace millrace {

using ReportJson = nlohmann::ordered_json;

// Most that is kept of each; beyond it something is left out and a note says so.
struct ReportLimits {
  int64_t spans = 24000;   // of measured steps, all ranks together; a span takes about 40 bytes
  int64_t groups = 16;     // different ranks of the prediction
  int64_t places = 4000;   // of a memory curve
  int64_t buffers = 8000;  // of which the report knows name and life
  int64_t steps = 1500;    // points of a training curve
};

ReportJson ReportData(const ReportInput& input, const ReportLimits& limits = {});

// Parts of it.
ReportJson NodesJson(const Plan& plan);
ReportJson PlanJsonOf(const Plan& plan, const RankPlan& rank_plan, const std::vector<Span>& spans,
                      const ReportLimits& limits, std::vector<std::string>* notes);
ReportJson PredictedJson(const Plan& plan, const SimResult& predicted, const ReportLimits& limits,
                         std::vector<std::string>* notes);
ReportJson MeasuredJson(const Plan& plan, const Trace& trace, const ReportLimits& limits,
                        std::vector<std::string>* notes);
ReportJson MetricsJson(const std::string& jsonl, const ReportLimits& limits,
                       std::vector<std::string>* notes);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_REPORT_REPORT_DATA_H_
