// Devices with memory of their own: an operation works in one memory. What a device does in its streams - kernels and
// collectives - touches the device's, what the host does touches pageable and pinned memory and storage; copies join
// device and pinned memory, which is all that a copy engine reaches.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "graph/verify/check.h"

namespace millrace {
namespace verify_internal {
namespace {

struct Sides {
  int64_t copies = 0, on_device = 0, on_host = 0;
};

// The first of the operation's values in that tier; -1: none is.
ValueId FirstIn(const Context& c, const std::vector<ValueId>& inputs,
                const std::vector<ValueId>& outputs, Tier tier) {
  for (const std::vector<ValueId>* values : {&inputs, &outputs}) {
    for (ValueId v : *values) {
      if (c.buffer(c.value(v).buffer).tier == tier) return v;
    }
  }
  return -1;
}

void CheckNode(const Context& c, NodeId n, Sides* sides, Report* report) {
  const Node& node = c.node(n);
  const std::vector<ValueId>& inputs = c.node(OperationBegin(c.graph(), n)).inputs;
  const std::vector<ValueId>& outputs = c.node(OperationEnd(c.graph(), n)).outputs;
  const auto first = [&](Tier tier) { return FirstIn(c, inputs, outputs, tier); };
  const LaneKind lane = LaneKindOf(c.graph(), n);
  if (!InStream(lane)) {
    ++sides->on_host;
    if (const ValueId v = first(Tier::kDevice); v >= 0) {
      report->Add(-1, node.name,
                  absl::StrCat("is the host's work, but touches ", c.value(v).name,
                               " in the device's memory"),
                  "copy it to pinned memory first, or what else it works on to the device");
    }
    return;
  }
  const bool copies = lane == LaneKind::kHostToDevice || lane == LaneKind::kDeviceToHost;
  ++(copies ? sides->copies : sides->on_device);
  if (copies) {
    for (size_t i = 0; i < std::min(inputs.size(), outputs.size()); ++i) {
      for (ValueId v : {inputs[i], outputs[i]}) {
        if (c.buffer(c.value(v).buffer).tier != Tier::kHost) continue;
        report->Add(-1, node.name,
                    absl::StrCat("copies between ", c.value(inputs[i]).name, " and ",
                                 c.value(outputs[i]).name, ", but ", c.value(v).name,
                                 " is in pageable memory, which no copy engine reaches"),
                    "put it into pinned memory");
      }
    }
    return;
  }
  for (Tier tier : {Tier::kPinned, Tier::kHost, Tier::kStorage}) {
    const ValueId v = first(tier);
    if (v < 0) continue;
    report->Add(-1, node.name,
                absl::StrCat("is the device's work, but touches ", c.value(v).name, " in ",
                             Name(tier), " memory"),
                "copy it to the device first");
    return;
  }
}

}  // namespace

void CheckMemorySides(const Context& context, Report* report) {
  if (!context.plan->separate_memory) {
    report->set_facts("device and host have one memory");
    return;
  }
  Sides sides;
  for (NodeId n = 0; n < context.num_nodes(); ++n) {
    if (context.node(n).async == AsyncRole::kDone) continue;
    CheckNode(context, n, &sides, report);
  }
  report->set_facts(absl::StrCat(Grouped(sides.on_device), " operations on the device, ",
                                 Grouped(sides.on_host), " on the host, ", Grouped(sides.copies),
                                 " copies between device and pinned memory"));
}

}  // namespace verify_internal
}  // namespace millrace
