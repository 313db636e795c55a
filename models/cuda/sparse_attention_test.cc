// The device's attention against the simplest loops in double (models/sparse_attention_reference.h), on random shapes,
// strides and windows of one to three axes, in both layouts and all types.
#include "models/cuda/sparse_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "graph/base/random.h"
#include "gtest/gtest.h"
#include "models/sparse_attention_reference.h"
#include "ops/cuda/emulation/device_test.h"

namespace millrace {
namespace cuda {
namespace {

using Values = SparseReference::Values;

std::string ToText(const SparseAttentionShape& s) {
  std::string text = "batch " + std::to_string(s.batch) + " heads " + std::to_string(s.heads) +
                     " width " + std::to_string(s.width) + (s.reference_layout ? " reference" : "");
  for (int a = 0; a < s.axes; ++a) {
    text += " | " + std::to_string(s.query[a]) + " of " + std::to_string(s.key[a]) + " stride " +
            std::to_string(s.stride[a]) + " window " + std::to_string(s.window[a]);
  }
  return text;
}

// Query grids are mostly what a strided convolution gives, sometimes smaller or larger.
SparseAttentionShape RandomShape(uint64_t index) {
  CounterRng rng(11, HashCombine(HashString("sparse attention on the device"), index));
  uint64_t draw = 0;
  const auto pick = [&](int low, int high) {  // inclusive
    return low + static_cast<int>(rng.Uniform(draw++) * (high - low + 1));
  };
  SparseAttentionShape s;
  s.batch = pick(1, 2), s.heads = pick(1, 4);
  s.width = pick(0, 2) == 0 ? pick(1, 70) : 4 * pick(1, 8);
  s.reference_layout = index % 2 == 1;
  s.axes = pick(1, 3);
  for (int a = 0; a < s.axes; ++a) {
    s.key[a] = pick(1, s.axes == 1 ? 60 : s.axes == 2 ? 11 : 5), s.stride[a] = pick(1, 4);
    s.window[a] = pick(1, s.axes == 1 ? 30 : s.axes == 2 ? 9 : 5);
    s.query[a] = std::max(1, (s.key[a] - 1) / s.stride[a] + 1 + pick(-1, 1));
  }
  return s;
}

SparseReference ReferenceOf(const SparseAttentionShape& s) {
  SparseReference r;
  for (int a = 0; a < s.axes; ++a) {
    r.query_grid.push_back(s.query[a]), r.key_grid.push_back(s.key[a]);
    r.stride.push_back(s.stride[a]), r.window.push_back(s.window[a]);
  }
  r.batch = s.batch, r.heads = s.heads, r.width = s.width;
  r.reference_layout = s.reference_layout;
  return r;
}

// Numbers that the type has, so that the reference starts from the same.
float Rounded(float x, DType type) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const int drop = type == DType::kF32 ? 0 : type == DType::kBF16 ? 16 : 13;
  bits = bits >> drop << drop;
  std::memcpy(&x, &bits, sizeof(x));
  return type == DType::kF16 && std::abs(x) < 1e-4f ? 0.0f : x;
}
uint16_t Half(float x, DType type) {  // exact
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  if (type == DType::kBF16) return static_cast<uint16_t>(bits >> 16);
  if (x == 0) return 0;
  return static_cast<uint16_t>((bits >> 16 & 0x8000) |
                               (((bits & 0x7fffffff) - (112u << 23)) >> 13));
}
double FromHalf(uint16_t x, DType type) {
  if (type == DType::kBF16) {
    const uint32_t bits = static_cast<uint32_t>(x) << 16;
    float y;
    std::memcpy(&y, &bits, sizeof(y));
    return y;
  }
  const int exponent = x >> 10 & 31, fraction = x & 1023;
  const double y =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return x >> 15 != 0 ? -y : y;
}

// A tensor on the device, `shift` elements after an aligned address.
class Tensor {
 public:
  Tensor(const Values& values, DType type, int64_t shift)
      : type_(type), shift_(shift), bytes_(Encode(values, type, shift)) {}
  void* data() const { return bytes_.data() + shift_ * SizeOf(type_); }
  Values Get() const {
    const std::vector<char> bytes = bytes_.Get();
    Values values;
    for (size_t at = shift_ * SizeOf(type_); at < bytes.size(); at += SizeOf(type_)) {
      float x;
      uint16_t half;
      std::memcpy(&x, bytes.data() + at, std::min<size_t>(sizeof(x), bytes.size() - at));
      std::memcpy(&half, bytes.data() + at, sizeof(half));
      values.push_back(type_ == DType::kF32 ? x : FromHalf(half, type_));
    }
    return values;
  }

 private:
  static std::vector<char> Encode(const Values& values, DType type, int64_t shift) {
    std::vector<char> bytes((values.size() + shift) * SizeOf(type));
    for (size_t i = 0; i < values.size(); ++i) {
      const auto x = static_cast<float>(values[i]);
      const uint16_t half = type == DType::kF32 ? uint16_t{0} : Half(x, type);
      std::memcpy(bytes.data() + (i + shift) * SizeOf(type),
                  type == DType::kF32 ? static_cast<const void*>(&x) : &half, SizeOf(type));
    }
    return bytes;
  }

  DType type_;
  int64_t shift_;
  DeviceArray<char> bytes_;
};

struct Inputs {
  Values q, k, v, dy;
};
Inputs RandomInputs(const SparseAttentionShape& s, DType type, double magnitude = 1) {
  const auto make = [&](int64_t tokens, uint64_t stream, double scale) {
    const CounterRng rng(5, stream);
    Values x(s.batch * tokens * s.heads * s.width);
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = Rounded(static_cast<float>(scale * rng.Normal(i)), type);
    return x;
  };
  return {make(s.queries(), 1, magnitude), make(s.keys(), 2, magnitude), make(s.keys(), 3, 1),
          make(s.queries(), 4, 1)};
}

struct Result {
  Values y, dq, dk, dv;
};
Result OnDevice(const SparseAttentionShape& s, DType type, const Inputs& in, int64_t shift = 0) {
  const Tensor q(in.q, type, shift), k(in.k, type, shift), v(in.v, type, shift),
      dy(in.dy, type, shift);
  const Values nothing_q(in.q.size(), 1), nothing_k(in.k.size(), 1);
  const Tensor y(nothing_q, type, shift), dq(nothing_q, type, shift), dk(nothing_k, type, shift),
      dv(nothing_k, type, shift);
  const DeviceArray<float> logsumexp(std::vector<float>(s.logsumexp_floats(), NAN)),
      sums(std::vector<float>(s.sums_floats(), NAN)),
      scratch(std::vector<float>(s.scratch_floats(), NAN));
  EXPECT_STREQ(SparseAttentionForward(
                   s, type, {q.data(), k.data(), v.data(), y.data(), logsumexp.data(), sums.data()},
                   nullptr),
               nullptr);
  EXPECT_STREQ(
      SparseAttentionBackward(s, type,
                              {q.data(), k.data(), v.data(), dy.data(), logsumexp.data(),
                               sums.data(), dq.data(), dk.data(), dv.data(), scratch.data()},
                              nullptr),
      nullptr);
  return {y.Get(), dq.Get(), dk.Get(), dv.Get()};
}
Result OfReference(const SparseAttentionShape& s, const Inputs& in) {
  const SparseReference reference = ReferenceOf(s);
  SparseReference::Gradients g = reference.Backward(in.q, in.k, in.v, in.dy);
  return {reference.Forward(in.q, in.k, in.v), g.q, g.k, g.v};
}

double Most(const Values& x) {
  double most = 0;
  for (const double v : x) most = std::max(most, std::abs(v));
  return most;
}
double Distance(const Values& a, const Values& b) {
  if (a.size() != b.size()) return 1e9;
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(a[i] - b[i]);
    most = d <= most ? most : std::isnan(d) ? 1e9 : d;
  }
  return most / (1e-9 + Most(b));
}
// As models/sparse_attention_test.cc: where each key is seen by one query, the gradients of q and k are what eps leaves
// of them, a difference of large numbers for anyone who computes in float.
void ExpectClose(const Result& a, const Result& b, double limit, const std::string& what) {
  const double scale = 0.3 * Most(b.dv);
  const auto distance = [scale](const Values& x, const Values& y) {
    return Distance(x, y) * std::min(1.0, Most(y) / scale);
  };
  EXPECT_LT(Distance(a.y, b.y), limit) << what;
  EXPECT_LT(distance(a.dq, b.dq), limit) << "dq " << what;
  EXPECT_LT(distance(a.dk, b.dk), limit) << "dk " << what;
  EXPECT_LT(Distance(a.dv, b.dv), limit) << "dv " << what;
}

TEST(CudaSparseAttention, EqualsTheSimplestLoopsOnRandomShapes) {
  for (uint64_t i = 0; i < 40; ++i) {
    ShuffleThreads(i % 2);
    const SparseAttentionShape s = RandomShape(i);
    const Inputs in = RandomInputs(s, DType::kF32);
    ExpectClose(OnDevice(s, DType::kF32, in, i % 3), OfReference(s, in), 2e-5,
                std::to_string(i) + ": " + ToText(s));
  }
  ShuffleThreads(0);
}

TEST(CudaSparseAttention, AnyWidthOfAHead) {
  for (const int width : {1, 15, 16, 17, 36, 64, 65, 128, 130, 512}) {
    SparseAttentionShape s;
    s.query[0] = 3, s.key[0] = 7, s.stride[0] = 3, s.window[0] = 5, s.heads = 2, s.width = width;
    const Inputs in = RandomInputs(s, DType::kF32, 1 / std::sqrt(std::sqrt(width)));
    ExpectClose(OnDevice(s, DType::kF32, in), OfReference(s, in), 2e-5, ToText(s));
  }
}

SparseAttentionShape Plane(int queries, int keys, int stride, int window) {
  SparseAttentionShape s;
  s.axes = 2, s.heads = 2, s.width = 16;
  for (int a = 0; a < 2; ++a)
    s.query[a] = queries, s.key[a] = keys, s.stride[a] = stride, s.window[a] = window;
  return s;
}

TEST(CudaSparseAttention, AWindowOverTheWholeGridIsDenseAttention) {
  const SparseAttentionShape s = Plane(3, 8, 3, 99);
  const SparseReference reference = ReferenceOf(s);
  for (int64_t i = 0; i < s.queries(); ++i) {
    for (int64_t j = 0; j < s.keys(); ++j) ASSERT_TRUE(reference.Sees(i, j));
  }
  const Inputs in = RandomInputs(s, DType::kF32);
  ExpectClose(OnDevice(s, DType::kF32, in), OfReference(s, in), 5e-6, ToText(s));
}

TEST(CudaSparseAttention, SixteenBitsAreRoundedOnce) {
  for (const auto& [type, limit] : {std::pair{DType::kBF16, 4e-3}, {DType::kF16, 5e-4}}) {
    for (const int64_t shift : {0, 1}) {
      for (uint64_t i = 100; i < 106; ++i) {
        const SparseAttentionShape s = i == 100 ? Plane(5, 15, 3, 7) : RandomShape(i);
        const Inputs in = RandomInputs(s, type);
        ExpectClose(OnDevice(s, type, in, shift), OfReference(s, in), limit, ToText(s));
      }
    }
  }
}

TEST(CudaSparseAttention, LargeScoresDoNotOverflow) {
  const SparseAttentionShape s = Plane(4, 8, 2, 5);
  const Inputs in = RandomInputs(s, DType::kF32, 30);
  ExpectClose(OnDevice(s, DType::kF32, in), OfReference(s, in), 1e-3, "scores of thousands");
}

TEST(CudaSparseAttention, KeysThatNoQuerySeesHaveNoPart) {
  SparseAttentionShape s;  // sees 0, 1 and 4, 5
  s.query[0] = 2, s.key[0] = 10, s.stride[0] = 5, s.window[0] = 2, s.width = 4;
  Inputs in = RandomInputs(s, DType::kF32);
  const Result before = OnDevice(s, DType::kF32, in);
  for (int c = 0; c < 4; ++c) in.v[8 * 4 + c] = in.k[8 * 4 + c] = 1e30;
  const Result after = OnDevice(s, DType::kF32, in);
  EXPECT_EQ(after.y, before.y);
  EXPECT_EQ(after.dq, before.dq);
  for (const int key : {2, 3, 6, 7, 8, 9}) {
    for (int c = 0; c < 4; ++c) {
      EXPECT_EQ(after.dk[key * 4 + c], 0) << key;
      EXPECT_EQ(after.dv[key * 4 + c], 0) << key;
    }
  }
}

TEST(CudaSparseAttention, BitsDoNotDependOnTheOrderOfThreads) {
  const SparseAttentionShape s = Plane(5, 11, 2, 5);
  const Inputs in = RandomInputs(s, DType::kF32);
  const Result once = OnDevice(s, DType::kF32, in);
  for (uint64_t seed = 1; seed < 4; ++seed) {
    ShuffleThreads(seed);
    const Result again = OnDevice(s, DType::kF32, in);
    EXPECT_TRUE(again.y == once.y && again.dq == once.dq && again.dk == once.dk &&
                again.dv == once.dv);
  }
  ShuffleThreads(0);
}

TEST(CudaSparseAttention, WhatDoesNotFitIsSaid) {
  const auto error = [](DType type, auto change) {
    SparseAttentionShape s;
    change(&s);
    return SparseAttentionForward(s, type, {}, nullptr);
  };
  using Shape = SparseAttentionShape;
  const DType f32 = DType::kF32;
  EXPECT_THAT(error(f32, [](Shape* s) { s->axes = 4; }), testing::HasSubstr("three axes"));
  EXPECT_THAT(error(f32, [](Shape* s) { s->width = 513; }), testing::HasSubstr("512 channels"));
  EXPECT_THAT(error(f32, [](Shape* s) { s->stride[0] = 0; }), testing::HasSubstr("at least 1"));
  EXPECT_THAT(error(DType::kF64, [](Shape*) {}), testing::HasSubstr("f32, bf16 or f16"));
}

}  // namespace
}  // namespace cuda
}  // namespace millrace
