// Pieces on the device against what the CPU's kernels make of them, bit for bit: all kinds and types in one launch, at
// all alignments, every 16-bit number, any bits as floats.
#include "ops/cuda/cast.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dist/kernels.h"
#include "gmock/gmock.h"
#include "graph/base/random.h"
#include "gtest/gtest.h"
#include "ops/cuda/emulation/device_test.h"
#include "ops/optimizer_kernels.h"

namespace millrace {
namespace cuda {
namespace {

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};
using Bytes = std::vector<char>;

// Any bits at all, every second time; otherwise ordinary numbers.
Bytes Random(DType type, int64_t n, uint64_t stream, bool nans = true) {
  const CounterRng rng(31, stream);
  std::vector<float> x(n);
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = rng.U32(2 * i);
    if (bits % 2 == 0) {
      std::memcpy(&x[i], &bits, sizeof(bits));
    } else {
      x[i] = static_cast<float>(rng.Normal(2 * i + 1) * 100);
    }
    if (!nans && x[i] != x[i]) x[i] = 1;
  }
  Bytes bytes(n * SizeOf(type));
  if (n == 0) return bytes;
  std::vector<uint16_t> half(n);
  if (type != DType::kF32) Narrow(type, x.data(), half.data(), n);
  std::memcpy(bytes.data(), type == DType::kF32 ? static_cast<void*>(x.data()) : half.data(),
              bytes.size());
  return bytes;
}

// Through f32, with the CPU's conversions.
Bytes CastOnCpu(const Bytes& from, DType from_type, DType to_type) {
  const auto n = static_cast<int64_t>(from.size()) / SizeOf(from_type);
  std::vector<float> wide(n + 1);
  if (from_type == DType::kF32) {
    std::memcpy(wide.data(), from.data(), from.size());
  } else {
    Widen(from_type, reinterpret_cast<const uint16_t*>(from.data()), wide.data(), n);
  }
  Bytes to(n * SizeOf(to_type));
  if (to_type == DType::kF32) {
    std::memcpy(to.data(), wide.data(), to.size());
  } else {
    Narrow(to_type, wide.data(), reinterpret_cast<uint16_t*>(to.data()), n);
  }
  return to;
}

// As ops/stages.cc scales a statistic.
template <typename T>
void ScaleAs(double factor, Bytes* bytes) {
  for (size_t i = 0; i < bytes->size(); i += sizeof(T)) {
    T x;
    std::memcpy(&x, bytes->data() + i, sizeof(x));
    x = static_cast<T>(factor * static_cast<double>(x));
    std::memcpy(bytes->data() + i, &x, sizeof(x));
  }
}
void ScaleOnCpu(DType type, double factor, Bytes* x) {
  if (type == DType::kF32) return ScaleAs<float>(factor, x);
  return type == DType::kBF16 ? ScaleAs<c10::BFloat16>(factor, x) : ScaleAs<c10::Half>(factor, x);
}

// As ops/optimizers.cc accumulates.
void AddOnCpu(DType type, Bytes* total, Bytes addend) {
  const auto n = static_cast<int64_t>(total->size()) / SizeOf(type);
  if (type == DType::kF32) {
    AddInPlace(reinterpret_cast<float*>(total->data()),
               reinterpret_cast<const float*>(addend.data()), n);
  } else {
    ReduceInRankOrder(type, ReduceOp::kSum, {total->data(), addend.data()}, {total->data()}, n,
                      Store::kCached);
  }
}

// One memory for all pieces of a launch: what they write is compared, and that they write nothing else.
class Memory {
 public:
  // Where `bytes` lie, `shift` bytes after a line.
  int64_t Put(const Bytes& bytes, int64_t shift) {
    all_.resize((all_.size() + 127) / 64 * 64 + static_cast<size_t>(shift), 'x');
    const auto at = static_cast<int64_t>(all_.size());
    all_.insert(all_.end(), bytes.begin(), bytes.end());
    return at;
  }
  void Expect(int64_t at, const Bytes& bytes, const std::string& what) {
    expected_.push_back({at, bytes, what});
  }
  // make(base) gives the pieces.
  template <typename Make>
  void Run(const Make& make) {
    all_.resize(all_.size() + 64, 'x');
    const DeviceArray<char> there(all_);
    const std::vector<Piece> pieces = make(there.data());
    ASSERT_STREQ(CheckPieces(pieces), nullptr);
    const std::vector<Chunk> chunks = Chunks(pieces);
    const DeviceArray<Piece> pieces_there(pieces);
    const DeviceArray<Chunk> chunks_there(chunks);
    ASSERT_STREQ(LaunchPieces(pieces_there.data(), chunks_there.data(),
                              static_cast<int64_t>(chunks.size()), nullptr),
                 nullptr);
    const Bytes got = there.Get();
    Bytes wanted = all_;
    for (const Expected& e : expected_) {
      EXPECT_TRUE(std::equal(e.bytes.begin(), e.bytes.end(), got.begin() + e.at)) << e.what;
      std::copy(e.bytes.begin(), e.bytes.end(), wanted.begin() + e.at);
    }
    EXPECT_TRUE(got == wanted) << "bytes of no piece were written";
  }

 private:
  struct Expected {
    int64_t at;
    Bytes bytes;
    std::string what;
  };
  Bytes all_;
  std::vector<Expected> expected_;
};

TEST(CudaCast, AllKindsTypesLengthsAndAlignmentsInOneLaunch) {
  Memory memory;
  std::vector<std::function<Piece(char*)>> makers;
  uint64_t stream = 0;
  for (const int64_t n : {0, 1, 3, 4, 61, 1000, 9000}) {
    for (const int64_t shift : {0, 1, 3}) {
      for (const DType from : kFloats) {
        const std::string what = absl::StrCat(Name(from), " ", n, " shift ", shift);
        for (const DType to : kFloats) {
          const Bytes source = Random(from, n, ++stream);
          // The sides shifted alike, and not.
          const int64_t a = memory.Put(source, shift * SizeOf(from));
          const int64_t b = memory.Put(Bytes(n * SizeOf(to), 'y'), (3 - shift) * SizeOf(to));
          memory.Expect(b, CastOnCpu(source, from, to), absl::StrCat("to ", Name(to), " ", what));
          makers.push_back(
              [=](char* base) { return Piece::Cast(base + a, from, base + b, to, n); });
        }
        Bytes x = Random(from, n, ++stream);
        const int64_t scaled = memory.Put(x, shift * SizeOf(from));
        ScaleOnCpu(from, 1.0 / 3, &x);
        memory.Expect(scaled, x, "scale " + what);
        makers.push_back([=](char* base) { return Piece::Scale(base + scaled, from, n, 1.0 / 3); });
        // Not two NaNs at once: which of them survives an addition is the compiler's choice.
        const bool first = ++stream % 2 == 0;
        Bytes total = Random(from, n, 2 * stream + 10000, first);
        const Bytes addend = Random(from, n, 2 * stream + 10001, !first);
        const int64_t t = memory.Put(total, shift * SizeOf(from));
        const int64_t s = memory.Put(addend, shift * SizeOf(from));
        AddOnCpu(from, &total, addend);
        memory.Expect(t, total, "add " + what);
        makers.push_back([=](char* base) { return Piece::Add(base + t, base + s, from, n); });
      }
      const int64_t zero = memory.Put(Bytes(n, 'z'), shift);
      memory.Expect(zero, Bytes(n, 0), absl::StrCat("zero ", n, " ", shift));
      makers.push_back([=](char* base) { return Piece::Zero(base + zero, n); });
    }
  }
  memory.Run([&](char* base) {
    std::vector<Piece> pieces;
    for (const auto& make : makers) pieces.push_back(make(base));
    return pieces;
  });
}

TEST(CudaCast, EverySixteenBitNumberIsWidenedAndComesBack) {
  for (const DType type : {DType::kBF16, DType::kF16}) {
    Bytes all(2 * 65536);
    for (int i = 0; i < 65536; ++i) {
      const auto x = static_cast<uint16_t>(i);
      std::memcpy(all.data() + 2 * i, &x, sizeof(x));
    }
    const Bytes wide = CastOnCpu(all, type, DType::kF32);
    Memory memory;
    const int64_t a = memory.Put(all, 0), b = memory.Put(Bytes(4 * 65536), 0);
    const int64_t c = memory.Put(wide, 0), d = memory.Put(Bytes(2 * 65536), 0);
    memory.Expect(b, wide, "widened");
    memory.Expect(d, CastOnCpu(wide, DType::kF32, type), "narrowed");
    memory.Run([&](char* base) {
      return std::vector<Piece>{Piece::Cast(base + a, type, base + b, DType::kF32, 65536),
                                Piece::Cast(base + c, DType::kF32, base + d, type, 65536)};
    });
  }
}

TEST(CudaCast, TwoNansAddToTheFirst) {
  const std::vector<uint32_t> a = {0x7fc12345, 0xffa00001, 0x7f800000, 0x3f800000};
  const std::vector<uint32_t> b = {0x7fc54321, 0x7fc00000, 0xff800000, 0xff800001};
  const DeviceArray<uint32_t> total(a), addend(b);
  const std::vector<Piece> pieces = {Piece::Add(total.data(), addend.data(), DType::kF32, 4)};
  const DeviceArray<Piece> pieces_there(pieces);
  const DeviceArray<Chunk> chunks(Chunks(pieces));
  ASSERT_STREQ(LaunchPieces(pieces_there.data(), chunks.data(), 1, nullptr), nullptr);
  EXPECT_THAT(total.Get(), testing::ElementsAre(0x7fc12345, 0xffe00001, 0xffc00000, 0xffc00001));
}

TEST(CudaCast, WhatHasNoKernelIsSaid) {
  char x[8];
  EXPECT_THAT(CheckPieces({Piece::Cast(x, DType::kI32, x, DType::kF32, 1)}),
              testing::HasSubstr("f32, bf16 or f16"));
  EXPECT_THAT(CheckPieces({Piece::Scale(x + 1, DType::kF32, 1, 2)}), testing::HasSubstr("aligned"));
  EXPECT_EQ(CheckPieces({Piece::Cast(x, DType::kI64, x, DType::kI64, 1)}), nullptr);
}

}  // namespace
}  // namespace cuda
}  // namespace millrace
