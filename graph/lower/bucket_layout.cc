#include "graph/lower/bucket_layout.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace millrace {
namespace {

constexpr int64_t kAlign = 16;  // elements: 64 bytes of f32, in which gradients and states are kept

int64_t RoundUp(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

class Filler {
 public:
  Filler(const ModelSpec& spec, int64_t limit, int ranks)
      : spec_(spec), limit_(limit), ranks_(ranks) {}

  std::vector<Bucket> Fill() {
    for (int s = static_cast<int>(spec_.stages.size()) - 1; s >= 0; --s) {
      const std::vector<ParamSpec>& params = spec_.stages[s].params;
      int64_t bytes = 0;
      for (const ParamSpec& p : params) bytes += p.numel() * SizeOf(p.dtype);
      const bool split = bytes > limit_;
      for (int i = static_cast<int>(params.size()) - 1; i >= 0; --i) {
        if (params[i].numel() == 0) continue;
        open_.push_back({.stage = s, .param = i, .numel = params[i].numel()});
        open_bytes_ += params[i].numel() * SizeOf(params[i].dtype);
        if (split && open_bytes_ >= limit_) Close();
      }
      if (open_bytes_ >= limit_) Close();
    }
    if (!open_.empty()) Close();
    return std::move(buckets_);
  }

 private:
  void Close() {
    Bucket bucket{.name = absl::StrCat("bucket_", buckets_.size())};
    std::reverse(open_.begin(), open_.end());
    for (ParamSlot& slot : open_) {
      slot.offset = RoundUp(bucket.numel, kAlign);
      bucket.numel = slot.offset + slot.numel;
    }
    bucket.numel = RoundUp(bucket.numel, kAlign * ranks_);
    bucket.slots = std::move(open_);
    buckets_.push_back(std::move(bucket));
    open_.clear();
    open_bytes_ = 0;
  }

  const ModelSpec& spec_;
  const int64_t limit_;
  const int ranks_;
  std::vector<Bucket> buckets_;
  std::vector<ParamSlot> open_;  // in backward order
  int64_t open_bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<Bucket>> LayoutBuckets(const ModelSpec& spec, int64_t limit_bytes,
                                                  int ranks) {
  const ParamSpec* first = nullptr;
  for (const StageSpec& stage : spec.stages) {
    for (const ParamSpec& p : stage.params) {
      if (first == nullptr) first = &p;
      if (p.dtype == first->dtype) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("parameter '", p.name, "' is ", Name(p.dtype), ", '", first->name, "' is ",
                       Name(first->dtype), "; expected one element type for all parameters"));
    }
  }
  return Filler(spec, limit_bytes, ranks).Fill();
}

Slice SliceOf(const Bucket& bucket, int stage) {
  Slice slice;
  bool found = false;
  int64_t end = bucket.numel;
  for (const ParamSlot& slot : bucket.slots) {
    if (slot.stage == stage && !found) {
      slice.offset = slot.offset;
      found = true;
    } else if (slot.stage > stage && found) {
      end = slot.offset;
      break;
    }
  }
  if (found) slice.numel = end - slice.offset;
  return slice;
}

}  // namespace millrace
