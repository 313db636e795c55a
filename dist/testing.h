// What the tests of all back ends share: a naive reference of every collective, buffers whose
// contents are a function of (rank, seed), and calls of all members at once. A new back end is
// tested with the same lines.
#ifndef MILLRACE_DIST_TESTING_H_
#define MILLRACE_DIST_TESTING_H_

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "dist/communicator.h"
#include "dist/kernels.h"
#include "graph/base/dtype.h"

namespace millrace {
namespace testing_dist {

using Bytes = std::vector<char>;
using Members = std::vector<std::unique_ptr<Communicator>>;

// Waits for a number of `done`s and keeps their statuses, by the number given to Add.
class Ends {
 public:
  explicit Ends(int expected) : statuses_(expected), left_(expected) {}
  std::function<void(absl::Status)> Add(int i) {
    return [this, i](absl::Status status) {
      std::lock_guard<std::mutex> lock(mu_);
      statuses_[i] = std::move(status);
      order_.push_back(i);
      if (--left_ == 0) all_.notify_all();
    };
  }
  const std::vector<absl::Status>& Wait() {
    std::unique_lock<std::mutex> lock(mu_);
    all_.wait(lock, [this] { return left_ == 0; });
    return statuses_;
  }
  int left() {
    std::lock_guard<std::mutex> lock(mu_);
    return left_;
  }
  const std::vector<int>& order() const { return order_; }  // after Wait

 private:
  std::mutex mu_;
  std::condition_variable all_;
  std::vector<absl::Status> statuses_;
  std::vector<int> order_;
  int left_;
};

// Small numbers with fractions that do not add up exactly, so that the order of a sum shows.
inline Bytes Fill(DType dtype, int64_t count, uint64_t seed) {
  Bytes bytes(count * SizeOf(dtype));
  uint64_t s = seed * 0x9e3779b97f4a7c15ull + 1;
  for (int64_t i = 0; i < count; ++i) {
    s = s * 6364136223846793005ull + 1442695040888963407ull;
    const int64_t whole = static_cast<int64_t>(s >> 40) - (1 << 23);
    const float real = static_cast<float>(whole) / 77777.0f;
    char* at = bytes.data() + i * SizeOf(dtype);
    const auto put = [at](auto x) { std::memcpy(at, &x, sizeof(x)); };
    switch (dtype) {
      case DType::kF32:
        put(real);
        break;
      case DType::kF64:
        put(static_cast<double>(whole) / 7.7e5);
        break;
      case DType::kBF16:
        put(ToBF16(real));
        break;
      case DType::kF16:
        put(ToF16(real));
        break;
      case DType::kI64:
        put(static_cast<int64_t>(s));
        break;
      case DType::kI32:
        put(static_cast<int32_t>(s >> 32));
        break;
      default:
        put(static_cast<uint8_t>(s >> 56));
        break;
    }
  }
  return bytes;
}

template <typename T>
T Get(const char* p) {
  T x;
  std::memcpy(&x, p, sizeof(x));
  return x;
}

// acc = op(acc, x) of one element; halves are accumulated in a float by the caller below.
template <typename T>
T Combined(ReduceOp op, T a, T b) {
  if (op == ReduceOp::kMax) return a > b ? a : b;
  if constexpr (std::is_integral<T>::value) {
    return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  } else {
    return a + b;
  }
}

// Element `i` of all sends, reduced in rank order, one at a time: the reference.
inline void ReduceOne(DType dtype, ReduceOp op, const std::vector<const char*>& elements,
                      char* out) {
  const auto plain = [&](auto zero) {
    using T = decltype(zero);
    T acc = Get<T>(elements[0]);
    for (size_t r = 1; r < elements.size(); ++r) acc = Combined(op, acc, Get<T>(elements[r]));
    std::memcpy(out, &acc, sizeof(acc));
  };
  const auto half = [&](float (*widen)(uint16_t), uint16_t (*narrow)(float)) {
    float acc = widen(Get<uint16_t>(elements[0]));
    for (size_t r = 1; r < elements.size(); ++r) {
      acc = Combined(op, acc, widen(Get<uint16_t>(elements[r])));
    }
    const uint16_t x = narrow(acc);
    std::memcpy(out, &x, sizeof(x));
  };
  switch (dtype) {
    case DType::kF32:
      return plain(float{});
    case DType::kF64:
      return plain(double{});
    case DType::kI64:
      return plain(int64_t{});
    case DType::kI32:
      return plain(int32_t{});
    case DType::kI8:
      return plain(int8_t{});
    case DType::kBF16:
      return half(FromBF16, ToBF16);
    case DType::kF16:
      return half(FromF16, ToF16);
    default:
      return plain(uint8_t{});
  }
}

// What every member's recv holds afterwards, given every member's send.
inline std::vector<Bytes> Expected(const Collective& c, const std::vector<Bytes>& sends) {
  const int n = static_cast<int>(sends.size());
  const int64_t size = SizeOf(c.dtype), bytes = c.count * size;
  std::vector<Bytes> recvs(n);
  for (int r = 0; r < n; ++r) {
    Bytes& recv = recvs[r];
    const auto reduce = [&](int64_t offset) {
      recv.resize(bytes);
      std::vector<const char*> elements(sends.size());
      for (int64_t i = 0; i < c.count; ++i) {
        for (size_t s = 0; s < sends.size(); ++s) {
          elements[s] = sends[s].data() + offset + i * size;
        }
        ReduceOne(c.dtype, c.reduce, elements, recv.data() + i * size);
      }
    };
    switch (c.kind) {
      case CollectiveKind::kAllGather:
        for (const Bytes& s : sends) recv.insert(recv.end(), s.begin(), s.begin() + bytes);
        break;
      case CollectiveKind::kAllToAll:
        for (const Bytes& s : sends) {
          recv.insert(recv.end(), s.begin() + r * bytes, s.begin() + (r + 1) * bytes);
        }
        break;
      case CollectiveKind::kBroadcast:
        recv = sends[c.root_or_peer];
        break;
      case CollectiveKind::kReduceScatter:
        reduce(r * bytes);
        break;
      case CollectiveKind::kAllReduce:
        reduce(0);
        break;
      default:
        break;
    }
  }
  return recvs;
}

inline int64_t SendCount(const Collective& c, int n) {
  const bool sliced =
      c.kind == CollectiveKind::kReduceScatter || c.kind == CollectiveKind::kAllToAll;
  return c.kind == CollectiveKind::kBarrier ? 0 : sliced ? c.count * n : c.count;
}
inline int64_t RecvCount(const Collective& c, int n) {
  const bool all = c.kind == CollectiveKind::kAllGather || c.kind == CollectiveKind::kAllToAll;
  return c.kind == CollectiveKind::kBarrier ? 0 : all ? c.count * n : c.count;
}

// One collective of all members with its own buffers: make, start, wait, compare.
struct Trial {
  Trial(Collective c, int n, bool in_place, uint64_t seed) : calls(n, c), in_place(in_place) {
    const int64_t size = SizeOf(c.dtype), bytes = c.count * size;
    for (int r = 0; r < n; ++r) {
      sends.push_back(Fill(c.dtype, SendCount(c, n), seed * 64 + r));
      memory.push_back(sends[r]);
      recvs.push_back(Bytes(RecvCount(c, n) * size, 0x55));
      if (in_place && bytes > 0 && c.kind == CollectiveKind::kAllGather) {
        std::memcpy(recvs[r].data() + r * bytes, sends[r].data(), bytes);
      }
    }
    expected = Expected(c, sends);
    for (int r = 0; r < n; ++r) {
      calls[r].send = memory[r].data();
      calls[r].recv = recvs[r].data();
      if (!in_place) continue;
      if (c.kind == CollectiveKind::kAllGather) calls[r].send = recvs[r].data() + r * bytes;
      if (c.kind == CollectiveKind::kReduceScatter) calls[r].recv = memory[r].data() + r * bytes;
      if (c.kind == CollectiveKind::kAllReduce || c.kind == CollectiveKind::kBroadcast) {
        calls[r].recv = memory[r].data();
      }
    }
  }

  // "" when every member received what it should and no send was changed out of place.
  std::string Difference() const {
    for (size_t r = 0; r < calls.size(); ++r) {
      if (!expected[r].empty() &&
          std::memcmp(calls[r].recv, expected[r].data(), expected[r].size()) != 0) {
        return "recv of rank " + std::to_string(r) + " is wrong";
      }
      if (!in_place && memory[r] != sends[r])
        return "send of rank " + std::to_string(r) + " changed";
    }
    return "";
  }

  std::vector<Collective> calls;
  std::vector<Bytes> sends, memory, recvs, expected;
  bool in_place;
};

inline constexpr DType kTypes[] = {DType::kF32, DType::kF64, DType::kBF16, DType::kF16, DType::kI64,
                                   DType::kI32, DType::kI8,  DType::kU8,   DType::kBool};

// Every collective that the type allows, of `count` elements; the root of broadcasts is the last member.
inline std::vector<Collective> AllCalls(int size, int64_t count, DType dtype) {
  std::vector<Collective> calls;
  for (CollectiveKind kind :
       {CollectiveKind::kAllGather, CollectiveKind::kReduceScatter, CollectiveKind::kAllReduce,
        CollectiveKind::kBroadcast, CollectiveKind::kAllToAll, CollectiveKind::kBarrier}) {
    for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax}) {
      if (op == ReduceOp::kMax && !Reduces(kind)) continue;
      if (op == ReduceOp::kSum && Reduces(kind) && SizeOf(dtype) == 1) continue;
      Collective c;
      c.kind = kind;
      c.dtype = dtype;
      c.reduce = op;
      c.count = count;
      c.root_or_peer = kind == CollectiveKind::kBroadcast ? size - 1 : 0;
      c.name = "t";
      calls.push_back(c);
    }
  }
  return calls;
}

}  // namespace testing_dist
}  // namespace millrace

#endif  // MILLRACE_DIST_TESTING_H_
