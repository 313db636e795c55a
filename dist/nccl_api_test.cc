// Opening NCCL where it is not, where something else is, and (where there is one) the real one.
#include "dist/nccl_api.h"

#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

using ::testing::HasSubstr;

TEST(NcclApi, WhereItIsMissingTheErrorNamesAllThatWasTried) {
  const absl::Status status = LoadNcclFrom({"/nowhere/libnccl.so.2", "libm.so.6"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("/nowhere/libnccl.so.2: "));
  EXPECT_THAT(status.message(), HasSubstr("libm.so.6: has no ncclGetVersion, ncclGetErrorString"));
  EXPECT_THAT(status.message(), HasSubstr("nvidia/nccl/lib"));
}

TEST(NcclApi, TheLoaderIsAskedFirst) { EXPECT_EQ(NcclPlaces()[0], "libnccl.so.2"); }

TEST(NcclApi, TheRealOneIsOfAKnownVersionAndMakesIds) {
  const absl::StatusOr<const NcclApi*> nccl = LoadNccl();
  if (!nccl.ok()) GTEST_SKIP() << nccl.status().message();
  EXPECT_EQ(*LoadNccl(), *nccl);
  int version = 0;
  ASSERT_EQ((*nccl)->GetVersion(&version), NcclResult::kSuccess);
  EXPECT_GE(version, kNcclOldestVersion);
  EXPECT_STREQ((*nccl)->GetErrorString(NcclResult::kSuccess), "no error");
  NcclUniqueId first, second;
  ASSERT_EQ((*nccl)->GetUniqueId(&first), NcclResult::kSuccess);
  ASSERT_EQ((*nccl)->GetUniqueId(&second), NcclResult::kSuccess);
  EXPECT_NE(std::memcmp(&first, &second, sizeof(first)), 0);
}

}  // namespace
}  // namespace millrace
