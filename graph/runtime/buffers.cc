#include "graph/runtime/buffers.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "graph/runtime/groups.h"

namespace millrace {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kHugePage = 2 << 20;

// A buffer that is in both plans is at the same place, and neither plan puts anything else where the other
// keeps persistent bytes: then a step of one leaves the other's weights alone.
absl::Status CheckSamePersistentLayout(const Plan& a, const Plan& b, int rank) {
  const RankPlan& rank_a = a.ForRank(rank);
  const RankPlan& rank_b = b.ForRank(rank);
  std::map<std::string, BufferId> in_a;
  for (size_t i = 0; i < a.graph.buffers().size(); ++i) {
    if (a.graph.buffers()[i].persistent) in_a[a.graph.buffers()[i].name] = i;
  }
  std::string wrong;
  for (size_t i = 0; i < b.graph.buffers().size(); ++i) {
    const Buffer& buffer = b.graph.buffers()[i];
    if (!buffer.persistent) continue;
    const auto found = in_a.find(buffer.name);
    if (found == in_a.end()) {
      absl::StrAppend(&wrong, "\n  ", buffer.name, ": only in ", b.name);
      continue;
    }
    const Buffer& other = a.graph.buffers()[found->second];
    const int64_t offset_a = rank_a.offset[found->second];
    const int64_t offset_b = rank_b.offset[i];
    if (other.bytes != buffer.bytes || other.tier != buffer.tier || offset_a != offset_b) {
      absl::StrAppend(&wrong, "\n  ", buffer.name, ": ", other.bytes, " bytes at ", offset_a, " (",
                      Name(other.tier), ") in ", a.name, ", ", buffer.bytes, " bytes at ", offset_b,
                      " (", Name(buffer.tier), ") in ", b.name);
    }
  }
  for (int t = 0; t < kTiers; ++t) {
    if (rank_a.persistent_bytes[t] == rank_b.persistent_bytes[t]) continue;
    absl::StrAppend(&wrong, "\n  persistent part of tier ", Name(static_cast<Tier>(t)), ": ",
                    rank_a.persistent_bytes[t], " bytes in ", a.name, ", ",
                    rank_b.persistent_bytes[t], " bytes in ", b.name);
  }
  if (wrong.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("plans ", a.name, " and ", b.name,
                                                 " cannot share the memory of rank ", rank,
                                                 ": persistent buffers differ", wrong));
}

// The memory behind one tier's arena.
absl::StatusOr<void*> Map(int64_t bytes, bool prefault) {
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("mmap of ", bytes, " bytes: ", strerror(errno)));
  }
  if (bytes >= kHugePage)
    madvise(base, bytes, MADV_HUGEPAGE);  // a hint: fewer faults and TLB misses
  if (prefault) {
    volatile char* p = static_cast<volatile char*>(base);
    for (int64_t i = 0; i < bytes; i += kPage) p[i] = 0;
  }
  return base;
}

}  // namespace

absl::StatusOr<std::shared_ptr<RankArenas>> RankArenas::Allocate(
    const std::vector<const Plan*>& plans, int rank, const Options& options) {
  std::shared_ptr<RankArenas> arenas(new RankArenas);
  for (const Plan* plan : plans) {
    RETURN_IF_ERROR(CheckSamePersistentLayout(*plans[0], *plan, rank));
    for (int t = 0; t < kTiers; ++t) {
      arenas->bytes_[t] = std::max(arenas->bytes_[t], plan->ForRank(rank).arena_bytes[t]);
    }
  }
  arenas->device_ = options.device;
  for (int t = 0; t < kTiers; ++t) {
    const Tier tier = static_cast<Tier>(t);
    const int64_t bytes = arenas->bytes_[t];
    if (bytes == 0 || tier == Tier::kStorage) continue;
    const std::string what =
        absl::StrCat("allocating ", bytes, " bytes of tier ", Name(tier), " for rank ", rank);
    if (options.device != nullptr) {
      absl::StatusOr<void*> base = options.device->Allocate(tier, bytes);
      if (!base.ok()) return Annotate(base.status(), what);
      arenas->base_[t] = *base;
    }
    if (arenas->base_[t] == nullptr) {
      const int64_t rounded = (bytes + kPage - 1) / kPage * kPage;
      absl::StatusOr<void*> base = Map(rounded, options.prefault);
      if (!base.ok()) return Annotate(base.status(), what);
      arenas->base_[t] = *base;
      arenas->mapped_[t] = rounded;
    }
  }
  return arenas;
}

RankArenas::~RankArenas() {
  for (int t = 0; t < kTiers; ++t) {
    if (base_[t] == nullptr) continue;
    if (mapped_[t] > 0) {
      munmap(base_[t], mapped_[t]);
    } else {
      device_->Release(static_cast<Tier>(t), base_[t], bytes_[t]);
    }
  }
}

absl::Status RankArenas::Read(Tier tier, void* host, const void* at, int64_t bytes) const {
  if (device_ != nullptr && tier == Tier::kDevice) return device_->Read(host, at, bytes);
  std::memcpy(host, at, bytes);
  return absl::OkStatus();
}

absl::Status RankArenas::Write(Tier tier, void* at, const void* host, int64_t bytes) const {
  if (device_ != nullptr && tier == Tier::kDevice) return device_->Write(at, host, bytes);
  std::memcpy(at, host, bytes);
  return absl::OkStatus();
}

absl::StatusOr<RankBuffers> RankBuffers::Create(const Plan& plan, int rank,
                                                std::shared_ptr<RankArenas> arenas) {
  RankBuffers buffers;
  buffers.plan_ = &plan;
  buffers.rank_ = rank;
  buffers.arenas_ = std::move(arenas);
  const RankPlan& rank_plan = plan.ForRank(rank);
  for (const Value& v : plan.graph.values()) {
    const Buffer& buffer = plan.graph.buffers()[v.buffer];
    if (rank_plan.offset[v.buffer] < 0) {  // not on this rank
      buffers.address_.push_back(nullptr);
      buffers.place_.push_back(-1);
      continue;
    }
    int64_t offset = v.offset;
    if (v.own_shard) offset += IndexInGroup(plan.graph, v.group, rank) * v.bytes();
    const int64_t begin = rank_plan.offset[v.buffer] + offset;
    if (offset + v.bytes() > buffer.bytes ||
        begin + v.bytes() > buffers.arenas_->bytes(buffer.tier)) {
      return absl::InvalidArgumentError(
          absl::StrCat("value ", v.name, " of rank ", rank, ": bytes ", begin, " to ",
                       begin + v.bytes(), " leave buffer ", buffer.name, " or the arena of tier ",
                       Name(buffer.tier), " (", buffers.arenas_->bytes(buffer.tier), " bytes)"));
    }
    char* base = static_cast<char*>(buffers.arenas_->base(buffer.tier));
    buffers.address_.push_back(base == nullptr ? nullptr : base + begin);
    buffers.place_.push_back(begin);
  }
  return buffers;
}

absl::StatusOr<RankBuffers> RankBuffers::Create(const Plan& plan, int rank) {
  ASSIGN_OR_RETURN(std::shared_ptr<RankArenas> arenas, RankArenas::Allocate({&plan}, rank));
  return Create(plan, rank, std::move(arenas));
}

absl::Status RankBuffers::Read(ValueId v, void* host) const {
  return arenas_->Read(plan_->graph.buffers()[plan_->graph.values()[v].buffer].tier, host,
                       address_[v], bytes(v));
}

absl::Status RankBuffers::Write(ValueId v, const void* host) const {
  return arenas_->Write(plan_->graph.buffers()[plan_->graph.values()[v].buffer].tier, address_[v],
                        host, bytes(v));
}

void* RankBuffers::buffer(BufferId b) const {
  char* base = static_cast<char*>(arenas_->base(plan_->graph.buffers()[b].tier));
  return base == nullptr ? nullptr : base + plan_->ForRank(rank_).offset[b];
}

}  // namespace millrace
