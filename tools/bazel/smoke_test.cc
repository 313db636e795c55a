// Every foreign library in one binary, each used for real. When this test passes, the build is
// sound: the repositories resolve, LibTorch lives beside the system's protobuf and oneTBB without
// symbol clashes, and run-time paths work inside the sandbox. It is the first thing to run on a new
// machine:
//
//   ./bazelw test //tools/bazel/...

#include <ATen/ops/ones.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <tbb/flow_graph.h>

#include <nlohmann/json.hpp>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "tools/bazel/smoke.pb.h"

namespace millrace {
namespace {

absl::StatusOr<double> SumOfOnes(int n) {
  if (n < 0) return absl::InvalidArgumentError(absl::StrCat("negative size ", n));
  return at::ones({n, 2}).sum().item<double>();
}

TEST(SmokeTest, LibTorchAddsAndAbseilCarriesTheAnswer) {
  absl::StatusOr<double> sum = SumOfOnes(3);
  ASSERT_TRUE(sum.ok()) << sum.status();
  EXPECT_EQ(*sum, 6.0);
  EXPECT_EQ(SumOfOnes(-1).status().message(), "negative size -1");
}

TEST(SmokeTest, FlowGraphRunsTorchInItsNodes) {
  tbb::flow::graph graph;
  int ran = 0;
  tbb::flow::continue_node<tbb::flow::continue_msg> first(
      graph, [&](const tbb::flow::continue_msg&) { ran += static_cast<int>(*SumOfOnes(1)); });
  tbb::flow::continue_node<tbb::flow::continue_msg> second(
      graph, [&](const tbb::flow::continue_msg&) { ran *= 10; });
  tbb::flow::make_edge(first, second);
  first.try_put(tbb::flow::continue_msg());
  graph.wait_for_all();
  EXPECT_EQ(ran, 20);
}

TEST(SmokeTest, ProtobufReadsTextThroughImports) {
  smoke::Whole whole;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"(part { name: "lane" } took { seconds: 2 })", &whole));
  EXPECT_EQ(whole.part(0).name(), "lane");
  EXPECT_EQ(whole.took().seconds(), 2);
}

TEST(SmokeTest, AbseilContainersLocksAndClocks) {
  absl::flat_hash_map<std::string, int> map{{"a", 1}};
  absl::Mutex mutex;
  absl::MutexLock lock(&mutex);
  EXPECT_EQ(map["a"], 1);
  EXPECT_GT(absl::Now(), absl::UnixEpoch());
}

TEST(SmokeTest, JsonPrints) { EXPECT_EQ(nlohmann::json({{"ok", true}}).dump(), R"({"ok":true})"); }

}  // namespace
}  // namespace millrace
