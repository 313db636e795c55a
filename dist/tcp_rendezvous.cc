// See tcp_rendezvous.h. All of LibTorch's exceptions end here.
#include "dist/tcp_rendezvous.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <vector>

#include "absl/strings/str_cat.h"
#include "torch/csrc/distributed/c10d/TCPStore.hpp"

namespace millrace {
namespace {

// The first line of an exception's text; what follows is a stack of LibTorch.
std::string FirstLine(const std::exception& e) {
  const std::string text = e.what();
  return text.substr(0, text.find('\n'));
}

class TcpStore : public RendezvousStore {
 public:
  TcpStore(c10::intrusive_ptr<c10d::TCPStore> store, std::string where)
      : store_(std::move(store)), where_(std::move(where)) {}

  absl::Status Set(const std::string& key, const std::string& value) override {
    return Guarded(key, [&] {
      store_->set("value/" + key, std::vector<uint8_t>(value.begin(), value.end()));
      return absl::OkStatus();
    });
  }
  absl::StatusOr<std::string> Find(const std::string& key) override {
    std::string value;
    const absl::Status status = Guarded(key, [&] {
      // Asked for first: its own get waits with the connection in its hands.
      if (!store_->check({"value/" + key})) {
        return absl::NotFoundError(absl::StrCat("'", key, "' is not set"));
      }
      const std::vector<uint8_t> bytes = store_->get("value/" + key);
      value.assign(bytes.begin(), bytes.end());
      return absl::OkStatus();
    });
    if (!status.ok()) return status;
    return value;
  }
  absl::StatusOr<int64_t> Add(const std::string& key, int64_t delta) override {
    int64_t sum = 0;
    const absl::Status status = Guarded(key, [&] {
      sum = store_->add("number/" + key, delta);
      return absl::OkStatus();
    });
    if (!status.ok()) return status;
    return sum;
  }
  std::string Describe() const override { return absl::StrCat("tcp store at ", where_); }

 private:
  template <typename F>
  absl::Status Guarded(const std::string& key, F f) {
    std::lock_guard<std::mutex> lock(mu_);
    try {
      return f();
    } catch (const std::exception& e) {
      return absl::UnavailableError(absl::StrCat(Describe(), ", '", key, "': ", FirstLine(e)));
    }
  }

  std::mutex mu_;
  const c10::intrusive_ptr<c10d::TCPStore> store_;
  const std::string where_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<RendezvousStore>> ConnectTcpStore(
    const Launch& launch, std::chrono::milliseconds timeout) {
  if (launch.master_address.empty()) {
    return absl::InvalidArgumentError(
        "this process was not launched as one of several: MASTER_ADDR is not set");
  }
  const std::string where = absl::StrCat(launch.master_address, ":", launch.master_port);
  const char* agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(launch.master_port);
  options.isServer = launch.rank == 0 && (agent == nullptr || std::strcmp(agent, "True") != 0);
  options.waitWorkers = false;  // who has not come is told by name, by those who wait for it
  options.timeout = timeout;
  try {
    return std::make_shared<TcpStore>(
        c10::make_intrusive<c10d::TCPStore>(launch.master_address, options), where);
  } catch (const std::exception& e) {
    return absl::UnavailableError(absl::StrCat(
        "rank ", launch.rank, options.isServer ? " cannot serve at " : " cannot reach ", where,
        options.isServer ? " (is the port free?): " : " (does rank 0 run there?): ", FirstLine(e)));
  }
}

}  // namespace millrace
