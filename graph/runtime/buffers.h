// The memory of one rank: one arena per tier, as large as the plan says, allocated before the first step and
// never again. A value is an address in it.
//
//   RankArenas::Options options;                                     // prefault, who allocates
//   ASSIGN_OR_RETURN(auto arenas, RankArenas::Allocate({&train, &evaluate}, rank, options));
//   ASSIGN_OR_RETURN(RankBuffers buffers, RankBuffers::Create(train, rank, arenas));
//   float* weights = static_cast<float*>(buffers.data(graph.FindValue("param/bucket_0")));
//
// Several plans (training and evaluation) may share the arenas: each tier is as large as the largest needs,
// and the persistent buffers, which lie first, must be the same in all of them - same names, sizes, offsets -
// so that evaluation sees the weights that training left. A later plan may lack some, but keeps their place free.
//
// The storage tier has a size but no memory here: its bytes are a file that the caller keeps.
//
// Fresh memory is zero. Freed with the last RankBuffers and the last holder of the arenas.
#ifndef MILLRACE_GRAPH_RUNTIME_BUFFERS_H_
#define MILLRACE_GRAPH_RUNTIME_BUFFERS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "graph/plan/plan.h"
#include "graph/runtime/device.h"

namespace millrace {

class RankArenas {
 public:
  struct Options {
    // Touches every page now rather than in the first step (a page fault costs about 0.25 us per KiB of
    // arena), from the calling thread, so that it also decides the memory's NUMA node.
    bool prefault = false;
    // Whose memory the device and the pinned tier are; null: the host's.
    std::shared_ptr<Device> device;
  };

  // kInvalidArgument when the plans' persistent buffers differ, kResourceExhausted when memory is short;
  // the message tells the tier and the bytes.
  static absl::StatusOr<std::shared_ptr<RankArenas>> Allocate(const std::vector<const Plan*>& plans,
                                                              int rank, const Options& options);
  static absl::StatusOr<std::shared_ptr<RankArenas>> Allocate(const std::vector<const Plan*>& plans,
                                                              int rank) {
    return Allocate(plans, rank, Options());
  }
  ~RankArenas();
  RankArenas(const RankArenas&) = delete;
  RankArenas& operator=(const RankArenas&) = delete;

  void* base(Tier tier) const { return base_[static_cast<int>(tier)]; }
  int64_t bytes(Tier tier) const { return bytes_[static_cast<int>(tier)]; }
  const std::shared_ptr<Device>& device() const { return device_; }

  // Whether the host can touch the tier's memory.
  bool on_host(Tier tier) const { return device_ == nullptr || tier != Tier::kDevice; }
  // Bytes of a tier that has memory, to and from the host's; between steps. `at`: an address in the tier's arena.
  absl::Status Read(Tier tier, void* host, const void* at, int64_t bytes) const;
  absl::Status Write(Tier tier, void* at, const void* host, int64_t bytes) const;

 private:
  RankArenas() = default;
  std::array<void*, kTiers> base_{};
  std::array<int64_t, kTiers> bytes_{};
  std::array<int64_t, kTiers> mapped_{};  // > 0: from mmap
  std::shared_ptr<Device> device_;
};

// Where the values of one plan lie for one rank. Copyable, thread-safe.
class RankBuffers {
 public:
  // The plan outlives the result.
  static absl::StatusOr<RankBuffers> Create(const Plan& plan, int rank,
                                            std::shared_ptr<RankArenas> arenas);
  // With arenas of its own.
  static absl::StatusOr<RankBuffers> Create(const Plan& plan, int rank);

  // A value with own_shard is this rank's part of its buffer. Null on storage, which is no memory. With a device, values
  // of the device tier are the device's memory, which the host cannot touch: Read and Write reach them between steps.
  void* data(ValueId v) const { return address_[v]; }
  // Bytes from the start of the value's tier: of a value on storage, its place in the rank's file.
  int64_t place(ValueId v) const { return place_[v]; }
  int64_t bytes(ValueId v) const { return plan_->graph.values()[v].bytes(); }
  template <typename T>
  T* as(ValueId v) const {
    return static_cast<T*>(address_[v]);
  }
  bool on_host(ValueId v) const {
    return arenas_->on_host(plan_->graph.buffers()[plan_->graph.values()[v].buffer].tier);
  }
  absl::Status Read(ValueId v, void* host) const;
  absl::Status Write(ValueId v, const void* host) const;
  // The whole buffer that a value lies in.
  void* buffer(BufferId b) const;

  int rank() const { return rank_; }
  const Plan& plan() const { return *plan_; }
  const std::shared_ptr<RankArenas>& arenas() const { return arenas_; }

 private:
  RankBuffers() = default;
  const Plan* plan_ = nullptr;
  int rank_ = 0;
  std::shared_ptr<RankArenas> arenas_;
  std::vector<void*> address_;
  std::vector<int64_t> place_;
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_RUNTIME_BUFFERS_H_
