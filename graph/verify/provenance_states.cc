// Optimizer states on their way: which state of the step's start is in a value, and how often it was updated. In place
// on the device little can go wrong; states in other tiers are copied into staging memory, updated there and copied
// back, and each of these copies may be of another bucket's, of another state of the same, or missing.
#include "absl/strings/str_cat.h"
#include "graph/verify/provenance.h"

namespace millrace {
namespace verify_internal {

// Parameters that are not on the device are staged like states.
bool Provenance::OffDevice(ValueId v) const {
  return Kind(v) == BufferKind::kParameter && c_.buffer(c_.value(v).buffer).tier != Tier::kDevice;
}

void Provenance::FindStates() {
  for (size_t i = 0; i < g_.values().size(); ++i) {
    const auto v = static_cast<ValueId>(i);
    const bool state = Kind(v) == BufferKind::kOptimizerState || OffDevice(v);
    if (g_.producer(v) < 0 && state && c_.buffer(c_.value(v).buffer).persistent) {
      states_[v] = {v, 0};
    }
  }
}

void Provenance::CopyState(ValueId from, ValueId to) {
  const auto it = states_.find(from);
  if (it != states_.end()) states_[to] = StateVersion(it->second);
}

void Provenance::UpdateStates(const Node& node, int k, const std::vector<ValueId>& outputs) {
  bucket_updates_[k] = &node;
  for (ValueId v : node.inputs) {
    if (Kind(v) != BufferKind::kOptimizerState && !OffDevice(v)) continue;
    const Value& value = c_.value(v);
    const auto it = states_.find(v);
    if (it == states_.end()) {
      Say(node, absl::StrCat("reads ", value.name, ", into which no optimizer state was copied"));
      continue;
    }
    const StateVersion read = it->second;
    const Value& state = c_.value(read.state);
    if (read.updates > 0) {
      Say(node, absl::StrCat("reads ", state.name, ", which this step has already updated"));
    }
    if (k >= 0 && state.bucket >= 0 && state.bucket != k) {
      Say(node, absl::StrCat("updates ", BucketName(k), " but reads ", state.name, " of ",
                             BucketName(state.bucket)));
    }
    state_updates_[read.state] = &node;
    for (ValueId out : outputs) {
      const Value& written = c_.value(out);
      if (written.buffer == value.buffer && written.offset == value.offset &&
          written.own_shard == value.own_shard) {
        states_[out] = {read.state, read.updates + 1};
      }
    }
  }
}

void Provenance::CheckStatesCameBack() {
  if (report_ == nullptr || updates_.empty()) return;
  const std::vector<std::vector<ValueId>> written = WrittenByBuffer(g_);
  for (size_t i = 0; i < g_.values().size(); ++i) {
    const auto state = static_cast<ValueId>(i);
    const auto origin = states_.find(state);
    if (origin == states_.end() || g_.producer(state) >= 0) continue;
    const Value& found = c_.value(state);
    const auto update = state_updates_.find(state);
    if (update == state_updates_.end()) {
      const auto of_bucket = bucket_updates_.find(found.bucket);
      // A parameter may be a copy of the master that is updated; then CheckBuckets looks at it.
      if (found.bucket >= 0 && of_bucket != bucket_updates_.end() &&
          Kind(state) == BufferKind::kOptimizerState) {
        Say(*of_bucket->second, absl::StrCat("does not read ", found.name));
      }
      continue;
    }
    const ValueId last = LastIn(c_, written, state);
    const auto it = states_.find(last);
    if (it != states_.end() && it->second.state == state && it->second.updates == 1) continue;
    std::string finds = "what this one found";
    if (last < 0) {
      finds = "parts of several values";
    } else if (it == states_.end()) {
      finds = absl::StrCat(c_.value(last).name, ", which is no state");
    } else if (it->second.state != state) {
      finds = absl::StrCat(c_.value(last).name, ", which is ", c_.value(it->second.state).name);
    } else if (it->second.updates > 1) {
      finds = absl::StrCat(c_.value(last).name, ", updated ", it->second.updates, " times");
    }
    Say(*update->second,
        absl::StrCat("updates ", found.name, ", but the next step would find there ", finds),
        "copy what the update writes back to where it was read");
  }
}

}  // namespace verify_internal
}  // namespace millrace
