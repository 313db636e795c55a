// See in_process.h. The meeting room holds the state; here are the members' faces and their
// threads.
#include "dist/in_process.h"

#include <pthread.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "dist/meeting_room.h"

namespace millrace {
namespace {

using in_process::MeetingRoom;

class Member : public Communicator {
 public:
  Member(int rank, std::shared_ptr<MeetingRoom> room) : rank_(rank), room_(std::move(room)) {}

  ~Member() override {
    room_->Leave(rank_);
    if (!has_worker_) return;
    room_->Dismiss(rank_);
    pthread_join(worker_, nullptr);
  }

  int rank() const override { return rank_; }
  int size() const override { return room_->size(); }

  void Start(const Collective& call, std::function<void(absl::Status)> done) override {
    // A copy: this member may be destroyed as soon as its `done` was called, while Start still does
    // something for the others.
    const std::shared_ptr<MeetingRoom> room = room_;
    room->Start(rank_, call, std::move(done));
  }

  void Abort(const absl::Status& why) override {
    const std::shared_ptr<MeetingRoom> room = room_;
    room->Abort(why);
  }

  std::string Describe() const override { return room_->Describe(); }

  // pthread rather than std::thread: reports the lack of threads without an exception.
  absl::Status StartWorker(const std::string& group) {
    const int error = pthread_create(&worker_, nullptr, &Member::Main, this);
    if (error != 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat(group, ": no thread for rank ", rank_, " (pthread error ", error, ")"));
    }
    has_worker_ = true;
    pthread_setname_np(worker_,
                       absl::StrCat(group.substr(0, 10), "-", rank_).substr(0, 15).c_str());
    return absl::OkStatus();
  }

 private:
  static void* Main(void* self) {
    Member* member = static_cast<Member*>(self);
    member->room_->Work(member->rank_);
    return nullptr;
  }

  const int rank_;
  const std::shared_ptr<MeetingRoom> room_;
  pthread_t worker_{};
  bool has_worker_ = false;
};

}  // namespace

absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> InProcessGroup::Create(
    int size, const InProcessOptions& options) {
  if (size < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.name, ": a group has at least one member, not ", size));
  }
  auto room = std::make_shared<MeetingRoom>(size, options);
  std::vector<std::unique_ptr<Communicator>> members;
  for (int r = 0; r < size; ++r) {
    auto member = std::make_unique<Member>(r, room);
    if (options.execution == InProcessOptions::Execution::kThreaded) {
      const absl::Status started = member->StartWorker(options.name);
      if (!started.ok()) return started;
    }
    members.push_back(std::move(member));
  }
  return members;
}

}  // namespace millrace
