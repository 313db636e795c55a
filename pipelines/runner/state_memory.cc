#include "pipelines/runner/state_memory.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"

namespace millrace {

absl::Status StateMemory::Load(int rank, ValueId v, void* to) {
  if (TierOf(v) != Tier::kStorage) return buffers_[rank]->Read(v, to);
  const Value& value = plan_->graph.values()[v];
  return files_[rank]->Read({StorageFile::Piece{buffers_[rank]->place(v), static_cast<char*>(to),
                                                value.bytes(), value.name}});
}

absl::Status StateMemory::Store(int rank, ValueId v, const void* from) {
  if (TierOf(v) != Tier::kStorage) return buffers_[rank]->Write(v, from);
  const Value& value = plan_->graph.values()[v];
  return files_[rank]->Write(
      {StorageFile::Piece{buffers_[rank]->place(v), static_cast<char*>(const_cast<void*>(from)),
                          value.bytes(), value.name}});
}

absl::StatusOr<char*> StateMemory::At(int rank, ValueId v, bool change) {
  const bool in_reach = TierOf(v) != Tier::kStorage && buffers_[rank]->on_host(v);
  if (in_reach) return static_cast<char*>(buffers_[rank]->data(v));
  const Value& value = plan_->graph.values()[v];
  Window& window = windows_[{rank, value.name.substr(0, value.name.find('/'))}];
  if (window.value != v) {
    RETURN_IF_ERROR(Flush(rank, &window));
    if (window.memory.bytes() < value.bytes()) {
      window.memory = PageMemory(value.bytes(), /*populate=*/false);
      if (window.memory.data() == nullptr) {
        return absl::ResourceExhaustedError(
            absl::StrCat("no memory for ", value.bytes(), " bytes of ", value.name));
      }
    }
    RETURN_IF_ERROR(Load(rank, v, window.memory.data()));
    window.value = v;
  }
  window.changed |= change;
  return window.memory.data();
}

absl::Status StateMemory::Flush(int rank, Window* window) {
  const ValueId v = window->value;
  const bool changed = window->changed;
  window->value = -1;
  window->changed = false;
  if (v < 0 || !changed) return absl::OkStatus();
  return Store(rank, v, window->memory.data());
}

absl::Status StateMemory::Close() {
  absl::Status status;
  for (auto& [key, window] : windows_) status.Update(Flush(key.first, &window));
  windows_.clear();
  return status;
}

absl::Status StateMemory::Zero() {
  constexpr int64_t kPart = 16 << 20;
  PageMemory zeros;
  windows_.clear();
  for (size_t r = 0; r < buffers_.size(); ++r) {
    const RankPlan& rank_plan = plan_->ForRank(buffers_[r]->rank());
    for (BufferId b = 0; b < static_cast<BufferId>(plan_->graph.buffers().size()); ++b) {
      const Buffer& buffer = plan_->graph.buffers()[b];
      if (!buffer.persistent) continue;
      const RankArenas& arenas = *buffers_[r]->arenas();
      if (buffer.tier != Tier::kStorage && arenas.on_host(buffer.tier)) {
        std::memset(buffers_[r]->buffer(b), 0, buffer.bytes);
        continue;
      }
      if (zeros.data() == nullptr) zeros = PageMemory(kPart, /*populate=*/false);
      if (zeros.data() == nullptr) return absl::ResourceExhaustedError("no memory for zeros");
      for (int64_t at = 0; at < buffer.bytes; at += kPart) {
        const int64_t bytes = std::min(kPart, buffer.bytes - at);
        if (buffer.tier == Tier::kStorage) {
          RETURN_IF_ERROR(files_[r]->Write(rank_plan.offset[b] + at, zeros.data(), bytes));
        } else {
          RETURN_IF_ERROR(arenas.Write(buffer.tier, static_cast<char*>(buffers_[r]->buffer(b)) + at,
                                       zeros.data(), bytes));
        }
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace millrace
