#include "graph/lower/pinned_copies.h"

#include <gtest/gtest.h>

#include <map>

#include "graph/lower/testing/fake_model.h"
#include "graph/lower/testing/pass_text.h"

namespace millrace {
namespace {

LowerOptions Offloaded(Tier optimizer, Tier parameters, int ranks) {
  LowerOptions options;
  options.separate_memory = true;
  options.zero_stage = 3;
  options.world_size = ranks;
  options.offload.optimizer = optimizer;
  options.offload.parameters = parameters;
  return options;
}

// The tier of every buffer that the pass leaves outside the device, by name.
std::map<std::string, Tier> Tiers(const ModelSpec& spec, const LowerOptions& options) {
  std::map<std::string, Tier> tiers;
  const auto graph = Lower(spec, options, [&](absl::string_view pass, const Graph& g) {
    if (pass != "pinned_copies") return;
    for (const Buffer& b : g.buffers()) {
      if (b.tier != Tier::kDevice) tiers[b.name] = b.tier;
    }
  });
  EXPECT_TRUE(graph.ok()) << graph.status();
  return tiers;
}

TEST(PinnedCopies, WhatComesFromStorageGoesThroughPinnedMemory) {
  const std::string after =
      TextAround("pinned_copies", MakeFakeModel(), Offloaded(Tier::kHost, Tier::kStorage, 2)).after;
  EXPECT_EQ(Lines(after, {"pinned/bucket_0/forward/0"}),
            R"(read/bucket_0/forward/0(param/bucket_0) -> pinned/bucket_0/forward/0
copy_to_device/bucket_0/forward/0(pinned/bucket_0/forward/0) -> shard/bucket_0/forward/0
)");
}

TEST(PinnedCopies, OnlyWhatCrossesIsPinned) {
  const std::map<std::string, Tier> host = {{"host_grad/bucket_0", Tier::kPinned},
                                            {"master/bucket_0", Tier::kPinned},
                                            {"exp_avg/bucket_0", Tier::kHost},
                                            {"exp_avg_sq/bucket_0", Tier::kHost}};
  EXPECT_EQ(Tiers(MakeFakeModel(), Offloaded(Tier::kHost, Tier::kDevice, 1)), host);
  // A master of 32 bits stays where it is, its copy of 16 bits goes to the device.
  FakeModelOptions narrow;
  narrow.dtype = DType::kBF16;
  const std::map<std::string, Tier> bf16 = {
      {"host_grad/bucket_0", Tier::kPinned}, {"master/bucket_0", Tier::kHost},
      {"exp_avg/bucket_0", Tier::kHost},     {"exp_avg_sq/bucket_0", Tier::kHost},
      {"param/bucket_0", Tier::kPinned},
  };
  EXPECT_EQ(Tiers(MakeFakeModel(narrow), Offloaded(Tier::kHost, Tier::kHost, 2)), bf16);
}

TEST(PinnedCopies, StagedStatesThatNeverCrossStayPageable) {
  const std::map<std::string, Tier> storage = {
      {"host_grad/bucket_0", Tier::kPinned},     {"storage/ring", Tier::kHost},
      {"master/bucket_0", Tier::kStorage},       {"exp_avg/bucket_0", Tier::kStorage},
      {"exp_avg_sq/bucket_0", Tier::kStorage},   {"staging/master/bucket_0", Tier::kPinned},
      {"staging/exp_avg/bucket_0", Tier::kHost}, {"staging/exp_avg_sq/bucket_0", Tier::kHost},
  };
  EXPECT_EQ(Tiers(MakeFakeModel(), Offloaded(Tier::kStorage, Tier::kDevice, 1)), storage);
}

TEST(PinnedCopies, OffloadedInputsArePinned) {
  LowerOptions options;
  options.separate_memory = true;
  options.recompute.stages = {"b"};
  options.recompute.offload_inputs = true;
  const std::map<std::string, Tier> inputs = {{"host_act/a/0", Tier::kPinned}};
  EXPECT_EQ(Tiers(MakeFakeModel(), options), inputs);
}

TEST(PinnedCopies, OneMemoryIsLeftAlone) {
  LowerOptions options = Offloaded(Tier::kHost, Tier::kStorage, 2);
  options.separate_memory = false;
  const PassText text = TextAround("pinned_copies", MakeFakeModel(), options);
  EXPECT_EQ(text.before, text.after);
}

}  // namespace
}  // namespace millrace
