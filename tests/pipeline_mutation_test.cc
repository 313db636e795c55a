// All pipelines of the repository at 2, 4 and 8 ranks, and at every ZeRO stage where they train a model, with and without
// offload, damaged at random in every way that graph/verify/mutation.h knows: the verifier finds all of it, and refuses nothing that is
// valid. MILLRACE_SEED=N draws other mutants.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "graph/verify/testing/mutation_tally.h"
#include "gtest/gtest.h"
#include "pipelines/runner/compiled.h"

namespace millrace {
namespace {

struct Variant {
  std::string file, name;
  std::vector<std::string> sets;
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
    const int stages = loaded.ok() && loaded->graph.has_value() ? 1 : 4;
    // Parameters that lie elsewhere are brought in bucket by bucket: stage 3 alone.
    const bool only_last = loaded.ok() && loaded->proto.memory().offload().has_parameters();
    for (int world : {2, 4, 8}) {
      for (int stage = only_last ? 3 : 0; stage < stages; ++stage) {
        Variant v{file, absl::StrCat(file, " on ", world, " ranks"), {}};
        v.sets.push_back(absl::StrCat("parallel.data=", world));
        if (stages > 1) {
          v.sets.push_back(absl::StrCat("parallel.zero.stage=", stage));
          absl::StrAppend(&v.name, ", stage ", stage);
        }
        // Of the smallest world also with states, and at stage 3 parameters, in other tiers.
        if (stages > 1 && world == 2) {
          Variant moved = v;
          const char* tier = stage % 2 == 0 ? "HOST" : "STORAGE";
          absl::StrAppend(&moved.name, ", offload to ", tier);
          moved.sets.push_back(absl::StrCat("memory.offload.optimizer.tier=", tier));
          if (stage == 3) moved.sets.push_back("memory.offload.parameters.tier=HOST");
          // A delayed update and a loss scale that moves exclude each other.
          const bool fp16 = loaded.ok() && loaded->proto.precision().mode() == Precision::F16;
          if (stage == 1 && !fp16) moved.sets.push_back("memory.offload.optimizer.delayed=true");
          variants.push_back(std::move(moved));
        }
        variants.push_back(std::move(v));
      }
    }
  }
  return variants;
}

uint64_t SeedFromEnvironment() {
  const char* text = std::getenv("MILLRACE_SEED");
  uint64_t seed = 1;
  if (text != nullptr) {
    EXPECT_TRUE(absl::SimpleAtoi(text, &seed)) << "MILLRACE_SEED=" << text;
  }
  return seed;
}

TEST(PipelineMutationTest, EveryDamageToEveryPipelineIsFoundAndNothingValidIsRefused) {
  const std::vector<Variant> variants = Variants();
  const uint64_t seed = SeedFromEnvironment();
  MutationTally tally;
  std::atomic<size_t> next{0};
  std::atomic<int> largest{0}, too_large{0};
  const auto work = [&] {
    for (size_t i = next++; i < variants.size(); i = next++) {
      const Variant& v = variants[i];
      Findings findings;
      auto loaded = LoadPipeline(v.file, v.sets, findings);
      ASSERT_TRUE(loaded.ok()) << v.name << ": " << loaded.status();
      const auto compiled = Compile(*std::move(loaded), {"pipelines/machines"}, findings);
      // On few ranks, or with little sharding, a large model is rightly refused: there is no plan to break.
      if (!compiled.ok() &&
          absl::StrContains(compiled.status().message(), "more than the budget")) {
        ++too_large;
        continue;
      }
      ASSERT_TRUE(compiled.ok()) << v.name << ": " << compiled.status();
      const int nodes = static_cast<int>(compiled->plan.graph.nodes().size());
      largest = std::max<int>(largest, nodes);
      // Small plans are broken more often: it costs little.
      const int rounds = std::clamp(300 / nodes, 1, 4);
      for (int r = 0; r < rounds; ++r) {
        tally.Break(compiled->plan, v.name, (seed * variants.size() + i) * 4 + r);
      }
      if (compiled->eval_plan && i % 4 == 0) {
        tally.Break(*compiled->eval_plan, v.name + ", evaluation", seed * variants.size() + i);
      }
    }
  };
  std::thread other(work);
  work();
  other.join();
  std::printf(
      "%s%zu variants of the pipelines, of which %d fit no device; the largest plan has %d nodes, "
      "seed %llu\n",
      tally.Table().c_str(), variants.size(), too_large.load(), largest.load(),
      static_cast<unsigned long long>(seed));
  EXPECT_EQ(tally.NeverMade(), "");
  EXPECT_EQ(tally.found(), tally.made());
  EXPECT_GE(tally.made(), 2000);
  EXPECT_GT(tally.harmless(), 100);
  EXPECT_LE(too_large, 12);  // vit_10b
}

}  // namespace
}  // namespace millrace
