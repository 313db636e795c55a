// Every pipeline of the repository, as written and at every ZeRO stage, with and without offload, on a machine whose
// device has memory of its own: the plans verify, training and evaluation.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/verify/verify.h"
#include "gtest/gtest.h"
#include "pipelines/runner/compiled.h"

namespace millrace {
namespace {

struct Variant {
  std::string file;
  std::vector<std::string> sets;
  std::string name() const { return absl::StrCat(file, " ", absl::StrJoin(sets, " ")); }
};

std::vector<Variant> Variants() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator("pipelines")) {
    if (entry.path().extension() == ".textproto") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  std::vector<Variant> variants;
  for (const std::string& file : files) {
    Findings findings;
    const auto loaded = LoadPipeline(file, {}, findings);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    if (!loaded.ok()) continue;
    const auto add = [&](std::vector<std::string> sets) {
      sets.push_back("machine=one_gpu");
      variants.push_back({file, std::move(sets)});
    };
    add({});
    const Memory& memory = loaded->proto.memory();
    // Settings of their own contradict these.
    if (loaded->graph.has_value() || memory.has_offload() || memory.has_recompute()) continue;
    const bool fp16 = loaded->proto.precision().mode() == Precision::F16;
    for (int stage = 0; stage <= 3; ++stage) {
      const std::string zero = absl::StrCat("parallel.zero.stage=", stage);
      const char* tier = stage % 2 == 0 ? "HOST" : "STORAGE";
      add({"parallel.data=2", zero});
      std::vector<std::string> moved = {"parallel.data=2", zero,
                                        absl::StrCat("memory.offload.optimizer.tier=", tier)};
      const bool delayed = stage == 2 && !fp16;
      moved.push_back(delayed ? "memory.offload.optimizer.delayed=true" : "train.accumulation=2");
      if (stage == 3) moved.push_back(absl::StrCat("memory.offload.parameters.tier=", tier));
      add(std::move(moved));
    }
    add({"parallel.data=1", "parallel.zero.stage=3", "memory.offload.optimizer.tier=HOST",
         "memory.offload.parameters.tier=HOST", "memory.recompute.every=2",
         "memory.recompute.offload_inputs=true"});
  }
  return variants;
}

// Settings that say nothing for one pipeline or another are errors there, and no plans.
bool SaysNothing(const absl::Status& status) {
  return absl::StrContains(status.message(), "changes nothing") ||
         absl::StrContains(status.message(), "would change nothing");
}

TEST(SeparateMemoryPlansTest, EveryPipelineVerifiesOnADeviceWithMemoryOfItsOwn) {
  const std::vector<Variant> variants = Variants();
  std::atomic<size_t> next{0};
  std::atomic<int> verified{0}, too_large{0}, nothing{0};
  const auto check = [&](const Plan& plan, const std::string& name) {
    EXPECT_TRUE(plan.separate_memory) << name;
    EXPECT_GT(plan.rank_plans[0].arena_bytes[static_cast<int>(Tier::kPinned)], 0) << name;
    const VerifyResult result = Verify(plan);
    EXPECT_TRUE(result.ok) << name << "\n" << ToText(result, plan);
    ++verified;
  };
  const auto work = [&] {
    for (size_t i = next++; i < variants.size(); i = next++) {
      const Variant& v = variants[i];
      Findings findings;
      auto loaded = LoadPipeline(v.file, v.sets, findings);
      absl::Status status = loaded.status();
      if (status.ok()) {
        const auto compiled = Compile(*std::move(loaded), {"pipelines/machines"}, findings);
        status = compiled.status();
        if (status.ok()) {
          check(compiled->plan, v.name());
          if (compiled->eval_plan) check(*compiled->eval_plan, v.name() + ", evaluation");
          continue;
        }
      }
      if (absl::StrContains(status.message(), "more than the budget")) {
        ++too_large;
      } else if (SaysNothing(status)) {
        ++nothing;
      } else {
        ADD_FAILURE() << v.name() << ": " << status;
      }
    }
  };
  std::thread other(work);
  work();
  other.join();
  std::printf("%d plans of %zu variants verified; %d do not fit, %d say nothing\n", verified.load(),
              variants.size(), too_large.load(), nothing.load());
  EXPECT_GT(verified, 200);
  EXPECT_LE(too_large, 20);
  EXPECT_LE(nothing, 20);
}

}  // namespace
}  // namespace millrace
