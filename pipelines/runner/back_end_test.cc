#include "pipelines/runner/back_end.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/base/findings.h"

namespace millrace {
namespace {

class NoDevices final : public BackEnd {
 public:
  bool own_operators() const override { return false; }
  absl::Status BeginProbe() override { return absl::OkStatus(); }
  absl::Status EndProbe() override { return absl::OkStatus(); }
  absl::StatusOr<std::shared_ptr<Device>> OpenDevice(int) override {
    return absl::UnavailableError("none");
  }
  absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeGroup(const std::string&,
                                                                       int) override {
    return absl::UnavailableError("none");
  }
};

LoadedPipeline Digits(const std::vector<std::string>& sets) {
  Findings findings;
  auto loaded = LoadPipeline("pipelines/digits_vit.textproto", sets, findings);
  EXPECT_TRUE(loaded.ok()) << findings.ToText();
  return *std::move(loaded);
}

TEST(BackEndOf, GivesTheKindsOpenerTheRanksAndWhatProfilersWant) {
  BackEndOptions seen;
  ASSERT_TRUE(RegisterBackEnd("CUDA", [&seen](const BackEndOptions& options) {
    seen = options;
    return std::make_shared<NoDevices>();
  }));
  Machine machine;
  machine.mutable_device()->set_kind(DeviceSpec::CUDA);
  for (const bool nvtx : {true, false}) {
    const auto sets = nvtx ? std::vector<std::string>{"machine=one_gpu", "runtime.nvtx=true"}
                           : std::vector<std::string>{"machine=one_gpu"};
    Findings findings;
    const auto opened = BackEndOf(Digits(sets), machine, 3, findings);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_NE(*opened, nullptr);
    EXPECT_EQ(seen.ranks, 3);
    EXPECT_EQ(seen.nvtx, nvtx);
  }
}

TEST(BackEndOf, IsNoneForTheCpu) {
  Findings findings;
  const auto opened = BackEndOf(Digits({}), Machine(), 2, findings);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(*opened, nullptr);
}

}  // namespace
}  // namespace millrace
