// Where LibTorch's CUDA libraries are looked for, and what is said when they are not there. That they work needs a GPU.
#include "models/cuda/torch_cuda.h"

#include <ATen/ops/empty.h>
#include <stdlib.h>

#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

class TorchCudaTest : public testing::Test {
 protected:
  void SetUp() override {
    unsetenv("MILLRACE_TORCH_LIB");
    unsetenv("MILLRACE_LIB");
  }
};

TEST_F(TorchCudaTest, LibTorchIsLookedForBesideTheOneThatIsLoaded) {
  (void)at::empty({1});  // libtorch_cpu.so is linked
  const auto paths = TorchCudaCandidates();
  ASSERT_EQ(paths.size(), 2u);
  EXPECT_THAT(paths[0], EndsWith("/libtorch_cuda.so"));
  const std::string folder = paths[0].substr(0, paths[0].rfind('/'));
  EXPECT_TRUE(std::ifstream(folder + "/libtorch_cpu.so").good()) << folder;
  EXPECT_EQ(paths[1], "libtorch_cuda.so");
}

TEST_F(TorchCudaTest, WhatAPersonSetsComesFirst) {
  setenv("MILLRACE_TORCH_LIB", "/opt/torch/lib", 1);
  setenv("MILLRACE_LIB", "/opt/millrace", 1);
  EXPECT_EQ(TorchCudaCandidates().at(0), "/opt/torch/lib/libtorch_cuda.so");
  EXPECT_EQ(ShimCandidates().at(0), "/opt/millrace/libmillrace_torch_cuda.so");
}

TEST_F(TorchCudaTest, AFailureNamesEveryFileThatWasTriedAndWhy) {
  const std::string folder = testing::TempDir();
  // There, but no library: as a broken installation.
  std::ofstream(folder + "/libtorch_cuda.so") << "not a library";
  setenv("MILLRACE_TORCH_LIB", folder.c_str(), 1);
  const auto shim = LoadTorchCuda();
  if (shim.ok()) GTEST_SKIP() << "LibTorch's CUDA libraries are on this machine";
  const std::string message(shim.status().message());
  EXPECT_THAT(message, HasSubstr("cannot load libtorch_cuda.so"));
  EXPECT_THAT(message, HasSubstr(folder + "/libtorch_cuda.so: "));
  EXPECT_THAT(message, HasSubstr("too short"));  // the loader's own words
  for (const std::string& path : TorchCudaCandidates()) {
    EXPECT_THAT(message, HasSubstr("\n  " + path + ": "));
  }
  EXPECT_THAT(message, HasSubstr("MILLRACE_TORCH_LIB"));
}

TEST_F(TorchCudaTest, AnErrorOfTheTableBecomesAStatus) {
  EXPECT_TRUE(ShimStatus(nullptr, "setting the stream").ok());
  const absl::Status status = ShimStatus("invalid device", "setting the stream");
  EXPECT_EQ(status.message(), "setting the stream: invalid device");
}

}  // namespace
}  // namespace millrace
