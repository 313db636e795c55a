// What the tests of NCCL communicators share: devices with streams over the fake, and a group's
// members with what is expected of every test's end (no misuse, nothing left alive).
#ifndef MILLRACE_DIST_NCCL_TESTING_H_
#define MILLRACE_DIST_NCCL_TESTING_H_

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dist/fake_nccl.h"
#include "dist/fake_stream.h"
#include "dist/nccl.h"
#include "dist/testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace millrace {
namespace testing_nccl {

using std::chrono::milliseconds;
using std::chrono::seconds;
using NcclMembers = std::vector<std::unique_ptr<NcclCommunicator>>;

constexpr milliseconds kLong = seconds(120);  // on a machine that does other things, too

// Options that find out quickly.
inline NcclOptions Quick(std::string name = "g") {
  NcclOptions options;
  options.name = std::move(name);
  options.init_deadline = options.issue_deadline = options.close_deadline = kLong;
  options.watch_every = milliseconds(2);
  return options;
}

class NcclTest : public ::testing::Test {
 protected:
  void TearDown() override {
    streams_.clear();
    EXPECT_EQ(fake_.living(), 0);
    EXPECT_THAT(fake_.misuse(), ::testing::IsEmpty());
    for (const auto& word : scratch_) EXPECT_EQ(*word, 0) << "a barrier left something behind";
  }

  // Ranks first .. first + count - 1, one device each; a stream each, with pauses unless seed is 0.
  std::vector<NcclMember> Local(int first, int count, uint64_t seed = 0) {
    std::vector<NcclMember> local;
    for (int r = first; r < first + count; ++r) {
      scratch_.push_back(std::make_unique<int32_t>(0));
      local.push_back({r, std::make_shared<NcclDevice>(r, scratch_.back().get(), nullptr)});
      streams_.push_back(std::make_unique<FakeStream>(seed == 0 ? 0 : seed * 100 + r));
    }
    return local;
  }
  static std::vector<int> Ranks(int size) {
    std::vector<int> ranks(size);
    for (int r = 0; r < size; ++r) ranks[r] = r;
    return ranks;
  }
  // A whole group in this process.
  NcclMembers Group(int size, const NcclOptions& options = Quick()) {
    auto members = NcclGroup::Create(fake_.api(), Ranks(size), Local(0, size), nullptr, options);
    EXPECT_TRUE(members.ok()) << members.status();
    return members.ok() ? *std::move(members) : NcclMembers(size);
  }
  absl::Status CreateError(int size, const NcclOptions& options = Quick()) {
    return NcclGroup::Create(fake_.api(), Ranks(size), Local(0, size), nullptr, options).status();
  }
  void* stream(int i) { return streams_[i]->handle(); }
  bool Synchronize() {
    for (auto& s : streams_) {
      if (!s->Synchronize(kLong)) return false;
    }
    return true;
  }
  // Aborts are carried out by the watchdog.
  bool AllFreed() {
    for (int i = 0; i < 10000 && fake_.living() > 0; ++i)
      std::this_thread::sleep_for(milliseconds(1));
    return fake_.living() == 0;
  }

  FakeNccl fake_;
  std::vector<std::unique_ptr<int32_t>> scratch_;
  std::vector<std::unique_ptr<FakeStream>> streams_;
};

inline Collective Make(CollectiveKind kind, std::string name, std::vector<float>* send = nullptr,
                       std::vector<float>* recv = nullptr, int64_t count = 0) {
  Collective c;
  c.kind = kind;
  c.name = std::move(name);
  c.send = send == nullptr ? nullptr : send->data();
  c.recv = recv == nullptr ? nullptr : recv->data();
  c.count = count;
  return c;
}

}  // namespace testing_nccl
}  // namespace millrace

#endif  // MILLRACE_DIST_NCCL_TESTING_H_
