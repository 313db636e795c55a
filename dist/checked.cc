// See checked.h.
#include "dist/checked.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dist/call_record.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

using Done = std::function<void(absl::Status)>;

// One call between Start and the start of the inner one.
struct Pending {
  Collective call;
  Done done;
  std::vector<CallRecord> records;  // one per rank; point to point: mine, the peer's
};

class Checked : public Communicator {
 public:
  Checked(std::unique_ptr<Communicator> inner, std::unique_ptr<Communicator> control)
      : inner_(inner.release()), control_(control.release()) {}

  // The control group first: its last `done`s still use both.
  ~Checked() override {
    delete control_;
    delete inner_;
  }

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }

  void Start(const Collective& call, Done done) override {
    const absl::Status valid = Validate(call, rank(), size());
    if (!valid.ok()) {
      const absl::Status why = Annotate(valid, "rank ", rank());
      Fail(why);
      return done(why);
    }
    auto pending = std::make_shared<Pending>();
    pending->call = call;
    pending->done = std::move(done);
    IsPointToPoint(call.kind) ? CompareWithPeer(pending) : CompareWithAll(pending);
  }

  void Abort(const absl::Status& why) override { Fail(why); }

  std::string Describe() const override {
    return absl::StrCat("before data moves: ", control_->Describe(),
                        "\nmoving data: ", inner_->Describe());
  }

 private:
  // The `done`s of collectives come in call order, one after the other, so the inner calls do, too.
  void CompareWithAll(const std::shared_ptr<Pending>& pending) {
    pending->records.resize(size());
    CallRecord& mine = pending->records[rank()];
    mine = RecordOf(pending->call, ++calls_);
    Collective exchange = Exchange(*pending, CollectiveKind::kAllGather);
    exchange.send = &mine;
    exchange.recv = pending->records.data();
    control_->Start(exchange, [this, pending](absl::Status status) {
      const std::vector<CallRecord>& records = pending->records;
      for (int r = 1; status.ok() && r < size(); ++r) status = Agree(0, records[0], r, records[r]);
      Proceed(*pending, std::move(status));
    });
  }

  // Both tell each other, on two channels made of the call's own; the peer's record coming in is
  // what starts the call. It comes in order within a channel, so the inner calls do, too.
  void CompareWithPeer(const std::shared_ptr<Pending>& pending) {
    const Collective& call = pending->call;
    const bool sends = call.kind == CollectiveKind::kSend;
    pending->records = {RecordOf(call, 0), CallRecord()};
    Collective tell = Exchange(*pending, CollectiveKind::kSend);
    Collective hear = Exchange(*pending, CollectiveKind::kRecv);
    tell.root_or_peer = hear.root_or_peer = call.root_or_peer;
    tell.tag = call.tag * 2 + (sends ? 0 : 1);  // an answer must not meet a call the other way
    hear.tag = call.tag * 2 + (sends ? 1 : 0);
    tell.send = &pending->records[0];
    hear.recv = &pending->records[1];
    // Had telling failed, the control group would be aborted, and hearing fail as well.
    control_->Start(tell, [pending](const absl::Status&) {});
    control_->Start(hear, [this, pending, sends](absl::Status status) {
      const int me = rank(), peer = pending->call.root_or_peer;
      const std::vector<CallRecord>& r = pending->records;
      if (status.ok()) status = sends ? Agree(me, r[0], peer, r[1]) : Agree(peer, r[1], me, r[0]);
      Proceed(*pending, std::move(status));
    });
  }

  Collective Exchange(const Pending& pending, CollectiveKind kind) const {
    Collective c;
    c.kind = kind;
    c.dtype = DType::kU8;
    c.count = sizeof(CallRecord);
    // The same on all members whatever they called: the records shall disagree, not the exchange.
    // Point-to-point exchanges are not compared by name and may say more.
    c.name = IsPointToPoint(kind) ? absl::StrCat("check of ", pending.call.name) : "check";
    return c;
  }

  void Proceed(Pending& pending, absl::Status status) {
    if (status.ok()) {
      inner_->Start(pending.call, std::move(pending.done));
      return;
    }
    Fail(status);
    pending.done(std::move(status));
  }

  void Fail(const absl::Status& why) {
    inner_->Abort(why);
    control_->Abort(why);
  }

  // Owned. Not smart pointers, as they are used while they are being deleted.
  Communicator* const inner_;
  Communicator* const control_;
  uint64_t calls_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> MakeChecked(std::unique_ptr<Communicator> inner,
                                                          std::unique_ptr<Communicator> control) {
  if (control->rank() != inner->rank() || control->size() != inner->size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("control group is rank ", control->rank(), " of ", control->size(),
                     ", the group itself rank ", inner->rank(), " of ", inner->size()));
  }
  return std::unique_ptr<Communicator>(new Checked(std::move(inner), std::move(control)));
}

}  // namespace millrace
