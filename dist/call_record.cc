// See call_record.h.
#include "dist/call_record.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace millrace {
namespace {

// FNV-1a: absl::Hash differs from process to process.
uint64_t HashOf(absl::string_view text) {
  uint64_t h = 14695981039346656037ull;
  for (char c : text) h = (h ^ static_cast<uint8_t>(c)) * 1099511628211ull;
  return h;
}

}  // namespace

CallRecord RecordOf(const Collective& call, uint64_t index) {
  CallRecord r;
  const bool barrier = call.kind == CollectiveKind::kBarrier;
  const bool p2p = IsPointToPoint(call.kind);
  r.index = index;
  r.count = barrier ? 0 : call.count;
  r.tag = call.tag;
  r.name_hash = HashOf(call.name);
  r.root_or_peer = call.kind == CollectiveKind::kBroadcast || p2p ? call.root_or_peer : 0;
  r.kind = call.kind;
  r.dtype = barrier ? DType::kF32 : call.dtype;
  r.reduce = Reduces(call.kind) ? call.reduce : ReduceOp::kSum;
  r.name_size = static_cast<uint8_t>(std::min(call.name.size(), sizeof(r.name)));
  std::memcpy(r.name, call.name.data(), r.name_size);
  return r;
}

std::string ToText(const CallRecord& r) {
  std::string text = absl::StrCat(Name(r.kind), " '", absl::string_view(r.name, r.name_size),
                                  r.name_size == sizeof(r.name) ? "..." : "", "'");
  if (r.kind != CollectiveKind::kBarrier)
    absl::StrAppend(&text, " ", Name(r.dtype), " x ", r.count);
  if (r.reduce == ReduceOp::kMax) absl::StrAppend(&text, " max");
  if (r.kind == CollectiveKind::kBroadcast) absl::StrAppend(&text, " from rank ", r.root_or_peer);
  if (r.kind == CollectiveKind::kSend) absl::StrAppend(&text, " to rank ", r.root_or_peer);
  if (r.kind == CollectiveKind::kRecv) absl::StrAppend(&text, " from rank ", r.root_or_peer);
  if (r.tag != 0) absl::StrAppend(&text, " tag ", r.tag);
  return text;
}

absl::Status Agree(int rank_a, const CallRecord& a, int rank_b, const CallRecord& b) {
  if (IsPointToPoint(a.kind) && IsPointToPoint(b.kind)) {
    if (a.dtype == b.dtype && a.count == b.count) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat("rank ", rank_a, " called ", ToText(a),
                                                      ", rank ", rank_b, " called ", ToText(b)));
  }
  if (std::memcmp(&a, &b, sizeof(CallRecord)) == 0) return absl::OkStatus();
  // The order of ranks, not of arrival, so that every member and every run says the same.
  if (rank_b < rank_a) return Agree(rank_b, b, rank_a, a);
  return absl::FailedPreconditionError(absl::StrCat("rank ", rank_a, " called ", ToText(a),
                                                    " as call ", a.index, ", rank ", rank_b,
                                                    " called ", ToText(b), " as call ", b.index));
}

}  // namespace millrace
