#include "graph/trace/recorder.h"

#include <algorithm>

namespace millrace {
namespace {

constexpr size_t kStepsKept = 4096;

uint64_t PowerOfTwo(int64_t at_least) {
  uint64_t p = 1;
  while (p < static_cast<uint64_t>(std::max<int64_t>(at_least, 1))) p *= 2;
  return p;
}

}  // namespace

SpanRing::SpanRing(int rank, int64_t capacity)
    : rank_(rank), mask_(PowerOfTwo(capacity) - 1), records_(new Record[mask_ + 1]) {}

SpanRing* TraceRecorder::NewRing(int rank) {
  absl::MutexLock lock(&mutex_);
  rings_.push_back(std::make_unique<SpanRing>(rank, capacity_));
  return rings_.back().get();
}

std::vector<uint64_t> TraceRecorder::Counts() {
  absl::MutexLock lock(&mutex_);
  std::vector<uint64_t> counts;
  for (const auto& ring : rings_) counts.push_back(ring->count_);
  return counts;
}

void TraceRecorder::BeginStep(int64_t step) {
  if (steps_.size() == kStepsKept) steps_.pop_front();
  steps_.emplace_back();
  steps_.back().step = step;
  steps_.back().ring_begin = Counts();
  steps_.back().begin = Ticks();
}

void TraceRecorder::EndStep() {
  if (steps_.empty()) return;
  steps_.back().end = Ticks();
  steps_.back().ring_end = Counts();
}

Trace TraceRecorder::Collect(const Plan& plan, std::string title) {
  scale_.Refresh();
  Trace trace;
  trace.title = std::move(title);
  trace.plan = &plan;
  absl::MutexLock lock(&mutex_);
  std::vector<std::vector<int32_t>> lane_of(plan.world_size);
  for (const Step& step : steps_) {
    if (step.end == 0) continue;
    std::vector<Span> of_step;
    bool whole = true;
    for (size_t r = 0; r < step.ring_end.size() && whole; ++r) {
      const SpanRing& ring = *rings_[r];
      const uint64_t begin = r < step.ring_begin.size() ? step.ring_begin[r] : 0;
      if (ring.count_ - begin > ring.mask_ + 1) {
        trace.dropped += step.ring_end[r] - begin;
        whole = false;
        break;
      }
      const RankPlan& rank_plan = plan.ForRank(ring.rank_);
      std::vector<int32_t>& lanes = lane_of[ring.rank_];
      if (lanes.empty()) lanes = LaneOfNodes(plan, rank_plan);
      std::vector<Span> spans;
      for (uint64_t i = begin; i < step.ring_end[r]; ++i) {
        const SpanRing::Record& record = ring.records_[i & ring.mask_];
        spans.push_back({ring.rank_, lanes[record.node], record.node,
                         scale_.Nanoseconds(record.end - static_cast<int64_t>(record.duration)),
                         scale_.Nanoseconds(record.end)});
      }
      std::stable_sort(spans.begin(), spans.end(),
                       [](const Span& a, const Span& b) { return a.end_ns < b.end_ns; });
      CompleteSpans(plan, rank_plan, scale_.Nanoseconds(step.begin), spans);
      of_step.insert(of_step.end(), spans.begin(), spans.end());
    }
    if (!whole) continue;
    trace.steps.push_back(
        {step.step, scale_.Nanoseconds(step.begin), scale_.Nanoseconds(step.end)});
    trace.spans.insert(trace.spans.end(), of_step.begin(), of_step.end());
  }
  return trace;
}

void TraceRecorder::Clear() { steps_.clear(); }

}  // namespace millrace
