// See rendezvous.h.
#include "dist/rendezvous.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/base/findings.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

class InProcessStore : public RendezvousStore {
 public:
  absl::Status Set(const std::string& key, const std::string& value) override {
    std::lock_guard<std::mutex> lock(mu_);
    values_[key] = value;
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> Find(const std::string& key) override {
    std::lock_guard<std::mutex> lock(mu_);
    const auto it = values_.find(key);
    if (it == values_.end()) return absl::NotFoundError(absl::StrCat("'", key, "' is not set"));
    return it->second;
  }
  absl::StatusOr<int64_t> Add(const std::string& key, int64_t delta) override {
    std::lock_guard<std::mutex> lock(mu_);
    return numbers_[key] += delta;
  }
  std::string Describe() const override { return "in-process store"; }

 private:
  std::mutex mu_;
  std::map<std::string, std::string> values_;
  std::map<std::string, int64_t> numbers_;
};

// Reads the variables and gathers what is wrong with them.
class LaunchReader {
 public:
  explicit LaunchReader(const std::function<const char*(const char*)>& environment)
      : environment_(environment) {}

  std::optional<std::string> Text(const char* name) const {
    const char* text = environment_ ? environment_(name) : std::getenv(name);
    if (text == nullptr || *text == 0) return std::nullopt;
    return std::string(text);
  }

  // A number in [low, high]; `otherwise` after a mistake.
  int Number(const char* name, int low, int high, int otherwise) {
    const std::optional<std::string> text = Text(name);
    int number = 0;
    if (!text) {
      Missing(name);
    } else if (!absl::SimpleAtoi(*text, &number)) {
      Wrong(absl::StrCat(name, " is '", *text, "', expected a number"), "");
    } else if (number < low || number > high) {
      Wrong(absl::StrCat(name, " is ", number, ", expected one in [", low, ", ", high, "]"), "");
    } else {
      return number;
    }
    return otherwise;
  }

  void Missing(const char* name) {
    Wrong(absl::StrCat(name, " is not set, but others of RANK, WORLD_SIZE, LOCAL_RANK, ",
                       "MASTER_ADDR, MASTER_PORT are"),
          "start the processes by torchrun, or set all of them, or none for one process");
  }
  void Wrong(std::string message, std::string suggestion) {
    findings_.Add(
        {.check = "launch", .message = std::move(message), .suggestion = std::move(suggestion)});
  }
  const Findings& findings() const { return findings_; }

 private:
  const std::function<const char*(const char*)>& environment_;
  Findings findings_;
};

// "3, 5 and 9 more": a list of ranks that stays readable.
std::string RankList(const std::vector<int>& ranks) {
  constexpr size_t kShown = 8;
  const size_t shown = std::min(ranks.size(), kShown);
  std::string text = absl::StrJoin(ranks.begin(), ranks.begin() + shown, ", ");
  if (shown < ranks.size()) absl::StrAppend(&text, " and ", ranks.size() - shown, " more");
  return absl::StrCat(ranks.size() == 1 ? "rank " : "ranks ", text);
}

}  // namespace

absl::StatusOr<std::string> RendezvousStore::Get(const std::string& key, milliseconds timeout) {
  const auto deadline = steady_clock::now() + timeout;
  milliseconds pause(1);
  while (true) {
    absl::StatusOr<std::string> value = Find(key);
    if (value.ok() || !absl::IsNotFound(value.status())) return value;
    const auto now = steady_clock::now();
    if (now >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat(Describe(), ": nobody has set '", key, "' within ", timeout.count(), " ms"));
    }
    std::this_thread::sleep_for(std::min<steady_clock::duration>(pause, deadline - now));
    pause = std::min(pause * 2, milliseconds(50));
  }
}

std::shared_ptr<RendezvousStore> MakeInProcessStore() { return std::make_shared<InProcessStore>(); }

absl::StatusOr<Launch> ReadLaunch(const std::function<const char*(const char*)>& environment) {
  LaunchReader reader(environment);
  bool any = false;
  for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}) {
    any = any || reader.Text(name).has_value();
  }
  Launch launch;
  if (!any) return launch;
  constexpr int kMost = 1 << 20;
  launch.world = reader.Number("WORLD_SIZE", 1, kMost, 0);
  launch.rank = reader.Number("RANK", 0, launch.world > 0 ? launch.world - 1 : kMost, 0);
  if (reader.Text("LOCAL_RANK")) {
    launch.local_rank =
        reader.Number("LOCAL_RANK", 0, launch.world > 0 ? launch.world - 1 : kMost, 0);
  }
  launch.master_port = reader.Number("MASTER_PORT", 1, 65535, 0);
  if (const auto address = reader.Text("MASTER_ADDR")) {
    launch.master_address = *address;
  } else {
    reader.Missing("MASTER_ADDR");
  }
  RETURN_IF_ERROR(reader.findings().ToStatus());
  return launch;
}

absl::Status CheckSamePlan(RendezvousStore& store, int rank, int world, absl::string_view hash,
                           milliseconds timeout, int round) {
  const auto deadline = steady_clock::now() + timeout;
  const auto key = [&](int r) { return absl::StrCat("plan/", round, "/", r); };
  RETURN_IF_ERROR(Annotate(store.Set(key(rank), std::string(hash)), "telling the plan's hash"));
  std::map<std::string, std::vector<int>> ranks_of;
  std::vector<int> absent;
  for (int r = 0; r < world; ++r) {
    // When the time is over every rank is still looked for once: all that are late are named.
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now());
    absl::StatusOr<std::string> theirs = store.Get(key(r), std::max(left, milliseconds(0)));
    if (theirs.ok()) {
      ranks_of[*theirs].push_back(r);
    } else if (absl::IsDeadlineExceeded(theirs.status())) {
      absent.push_back(r);
    } else {
      return Annotate(theirs.status(), "hearing the plan's hash of rank ", r);
    }
  }
  if (ranks_of.size() > 1) {
    std::vector<std::string> groups;
    for (const auto& [text, ranks] : ranks_of) {
      groups.push_back(absl::StrCat(RankList(ranks), ": ", text));
    }
    return absl::FailedPreconditionError(absl::StrCat(
        "the processes do not run the same plan: ", absl::StrJoin(groups, "; "),
        ". Give all of them the same pipeline, settings, machine and program version"));
  }
  if (!absent.empty()) {
    return absl::DeadlineExceededError(absl::StrCat(RankList(absent), " of ", world,
                                                    " did not come to ", store.Describe(),
                                                    " within ", timeout.count(), " ms"));
  }
  return absl::OkStatus();
}

}  // namespace millrace
