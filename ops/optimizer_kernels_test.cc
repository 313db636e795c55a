#include "ops/optimizer_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dist/kernels.h"
#include "graph/base/random.h"
#include "gtest/gtest.h"

namespace millrace {
namespace {

float FromBits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// Ordinary numbers, and every fourth one any bits at all: denormals, infinities, NaNs with all payloads.
std::vector<float> Numbers(int64_t n, uint64_t stream, bool any_bits) {
  constexpr uint32_t kSpecial[] = {0x00000001, 0x807fffff, 0x7f800000, 0xff800000, 0x7fc12345,
                                   0xffc00001, 0x7f800001, 0x80000000, 0x477ff000, 0x33000001};
  CounterRng rng(11, stream);
  std::vector<float> x(n);
  for (int64_t i = 0; i < n; ++i) {
    x[i] = static_cast<float>(rng.Normal(2 * i) * std::exp2(-10 * rng.Uniform(2 * i + 1)));
    const uint32_t pick = rng.U32(2 * n + i);
    if (any_bits && pick % 8 == 0) x[i] = FromBits(rng.U32(3 * n + i));
    if (any_bits && pick % 8 == 1) x[i] = FromBits(kSpecial[pick / 8 % 10]);
  }
  return x;
}

std::vector<char> Encode(const std::vector<float>& x, DType type) {
  std::vector<char> bytes(x.size() * SizeOf(type) + 1);  // never empty
  for (size_t i = 0; i < x.size(); ++i) {
    const uint16_t half = type == DType::kBF16 ? ToBF16(x[i]) : ToF16(x[i]);
    const void* from = type == DType::kF32 ? static_cast<const void*>(&x[i]) : &half;
    std::memcpy(bytes.data() + i * SizeOf(type), from, SizeOf(type));
  }
  return bytes;
}

// All arrays of one update. `shift` elements lie before the first one, so that nothing is aligned.
struct Arrays {
  Arrays(int64_t n, int64_t shift, DType grad, DType copy_type, bool any_bits)
      : n(n),
        shift(shift),
        grad_bytes(SizeOf(grad)),
        copy_bytes(SizeOf(copy_type)),
        p(Numbers(n + shift, 1, any_bits)),
        m(Numbers(n + shift, 2, any_bits)),
        v(Numbers(n + shift, 3, any_bits)),
        g(Encode(Numbers(n + shift, 4, any_bits), grad)),
        copy((n + shift) * copy_bytes + 1, 'x') {
    for (float& x : v) x = std::fabs(x);
  }
  bool operator==(const Arrays& o) const {
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    return same(p, o.p) && same(m, o.m) && same(v, o.v) && g == o.g && copy == o.copy;
  }
  // Pointers to element i.
  float* P(int64_t i) { return p.data() + shift + i; }
  float* M(int64_t i) { return m.data() + shift + i; }
  float* V(int64_t i) { return v.data() + shift + i; }
  const void* G(int64_t i) const { return g.data() + (shift + i) * grad_bytes; }
  void* Copy(int64_t i) { return copy.data() + (shift + i) * copy_bytes; }

  int64_t n, shift, grad_bytes, copy_bytes;
  std::vector<float> p, m, v;
  std::vector<char> g, copy;
};

// Elements [begin, end) of `a`; o.copy only says whether there is to be one.
using Update = std::function<absl::Status(Arrays& a, int64_t begin, int64_t end, UpdateOptions o)>;

struct NamedUpdate {
  std::string name;
  Update update;
};

std::vector<NamedUpdate> ElementwiseUpdates() {
  std::vector<NamedUpdate> all;
  for (const bool decoupled : {true, false}) {
    all.push_back({decoupled ? "adamw" : "adam",
                   [decoupled](Arrays& a, int64_t begin, int64_t end, UpdateOptions o) {
                     AdamScalars s;
                     s.decoupled = decoupled;
                     s.step = 3;
                     s.grad_scale = 0.37f;
                     if (o.copy != nullptr) o.copy = a.Copy(begin);
                     return AdamUpdate(a.P(begin), a.G(begin), a.M(begin), a.V(begin), end - begin,
                                       s, o);
                   }});
  }
  for (const double momentum : {0.0, 0.9}) {
    for (const bool nesterov : {false, true}) {
      if (momentum == 0 && nesterov) continue;
      all.push_back({absl::StrCat("sgd ", momentum, " ", nesterov),
                     [=](Arrays& a, int64_t begin, int64_t end, UpdateOptions o) {
                       SgdScalars s;
                       s.momentum = momentum;
                       s.nesterov = nesterov;
                       s.weight_decay = 0.01;
                       s.grad_scale = 0.37f;
                       if (o.copy != nullptr) o.copy = a.Copy(begin);
                       return SgdUpdate(a.P(begin), a.G(begin),
                                        momentum == 0 ? nullptr : a.M(begin), end - begin, s, o);
                     }});
    }
  }
  return all;
}

LambScalars SomeLamb() {
  LambScalars s;
  s.lr = 0.01;
  s.step = 3;
  s.grad_scale = 0.37f;
  return s;
}

absl::Status Lamb(Arrays& a, int64_t begin, int64_t end, UpdateOptions o) {
  const int64_t n = end - begin;
  auto norms = LambMoments(a.P(begin), a.G(begin), a.M(begin), a.V(begin), n, SomeLamb(), o);
  if (!norms.ok()) return norms.status();
  // Random bits make the ratio infinite or NaN: then a fixed one, so that something is compared.
  const float ratio = LambTrustRatio(*norms);
  if (o.copy != nullptr) o.copy = a.Copy(begin);
  return LambApply(a.P(begin), a.M(begin), a.V(begin), n, std::isfinite(ratio) ? ratio : 0.5f,
                   SomeLamb(), o);
}

std::vector<NamedUpdate> AllUpdates() {
  auto all = ElementwiseUpdates();
  all.push_back({"lamb", Lamb});
  return all;
}

constexpr DType kFormats[] = {DType::kF32, DType::kBF16, DType::kF16};

// visit(grad, copy type, with copy)
template <typename Visit>
void ForFormats(const Visit& visit) {
  for (const DType grad : kFormats) {
    visit(grad, DType::kF32, false);
    for (const DType copy : kFormats) visit(grad, copy, true);
  }
}

UpdateOptions Options(DType grad, DType copy_type, bool copy, Isa isa) {
  static char marker;
  UpdateOptions o;
  o.grad = grad;
  o.copy = copy ? &marker : nullptr;
  o.copy_type = copy_type;
  o.isa = isa;
  return o;
}

class EveryIsa : public testing::TestWithParam<Isa> {};

TEST_P(EveryIsa, GivesTheBitsOfTheScalarLoopForAllTailsShiftsAndFormats) {
  if (!Supported(GetParam())) GTEST_SKIP() << "this processor has no " << Name(GetParam());
  for (const NamedUpdate& u : AllUpdates()) {
    ForFormats([&](DType grad, DType copy_type, bool copy) {
      for (int64_t n = 0; n <= 64 + 16; ++n) {
        Arrays expected(n, n % 5, grad, copy_type, true);
        Arrays actual = expected;
        const Arrays before = expected;
        const auto options = [&](Isa isa) { return Options(grad, copy_type, copy, isa); };
        ASSERT_TRUE(u.update(expected, 0, n, options(Isa::kScalar)).ok());
        ASSERT_TRUE(u.update(actual, 0, n, options(GetParam())).ok());
        ASSERT_TRUE(actual == expected) << u.name << " grad " << Name(grad) << " copy " << copy
                                        << Name(copy_type) << " n " << n;
        if (n > 0) {
          ASSERT_FALSE(expected == before) << u.name;
        }
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(OptimizerKernels, EveryIsa,
                         testing::Values(Isa::kScalar, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& info) { return Name(info.param); });

TEST(OptimizerKernels, AnyCutIntoThreadsOrRangesGivesTheSameBits) {
  constexpr int64_t kN = 5 * 65536 + 13;
  for (const NamedUpdate& u : AllUpdates()) {
    const UpdateOptions o = Options(DType::kBF16, DType::kF16, true, BestIsa());
    const Arrays start(kN, 1, DType::kBF16, DType::kF16, false);
    Arrays expected = start;
    ASSERT_TRUE(u.update(expected, 0, kN, o).ok());
    for (const int threads : {2, 3, 5, 64}) {
      Arrays actual = start;
      UpdateOptions with = o;
      with.threads = threads;
      ASSERT_TRUE(u.update(actual, 0, kN, with).ok());
      EXPECT_TRUE(actual == expected) << u.name << " on " << threads << " threads";
    }
    if (u.name == "lamb") continue;  // its ranges meet in the norms, see below
    for (const int64_t cut : {1, 31, 65537, 300000}) {
      Arrays actual = start;
      for (int64_t i = 0; i < kN; i += cut) {
        if (cut < 100 && i >= 1000) {  // short ranges cost calls: a few, then the rest
          ASSERT_TRUE(u.update(actual, i, kN, o).ok());
          break;
        }
        ASSERT_TRUE(u.update(actual, i, std::min(kN, i + cut), o).ok());
      }
      EXPECT_TRUE(actual == expected) << u.name << " in ranges of " << cut;
    }
  }
}

TEST(OptimizerKernels, LambShardsThatAddUpTheirNormsGiveTheBitsOfTheWholeTensor) {
  constexpr int64_t kN = 100003;
  const Arrays start(kN, 0, DType::kF32, DType::kF32, false);
  Arrays expected = start, actual = start;
  const UpdateOptions o;
  ASSERT_TRUE(Lamb(expected, 0, kN, o).ok());
  const int64_t cuts[] = {0, 7, 40000, 40001, kN};
  LambNorms total;
  for (int part : {2, 0, 3, 1}) {
    const int64_t begin = cuts[part], n = cuts[part + 1] - begin;
    auto norms = LambMoments(actual.P(begin), actual.G(begin), actual.M(begin), actual.V(begin), n,
                             SomeLamb(), o);
    ASSERT_TRUE(norms.ok());
    total.param.Add(norms->param);
    total.update.Add(norms->update);
  }
  for (int part = 0; part < 4; ++part) {
    const int64_t begin = cuts[part], n = cuts[part + 1] - begin;
    ASSERT_TRUE(LambApply(actual.P(begin), actual.M(begin), actual.V(begin), n,
                          LambTrustRatio(total), SomeLamb(), o)
                    .ok());
  }
  EXPECT_TRUE(actual == expected);
}

TEST(OptimizerKernels, LambIsTheFormulaOfItsPaper) {
  constexpr int64_t kN = 1000;
  const LambScalars s = SomeLamb();
  const Arrays start(kN, 0, DType::kF32, DType::kF32, false);
  Arrays actual = start;
  ASSERT_TRUE(Lamb(actual, 0, kN, UpdateOptions()).ok());
  std::vector<double> update(kN);
  double param_square = 0, update_square = 0;
  for (int64_t i = 0; i < kN; ++i) {
    float raw;
    std::memcpy(&raw, start.G(i), sizeof(raw));
    const double g = raw * static_cast<double>(s.grad_scale), p = start.p[i];
    const double m = s.beta1 * start.m[i] + (1 - s.beta1) * g;
    const double v = s.beta2 * start.v[i] + (1 - s.beta2) * g * g;
    const double m_hat = m / (1 - std::pow(s.beta1, s.step));
    const double v_hat = v / (1 - std::pow(s.beta2, s.step));
    update[i] = m_hat / (std::sqrt(v_hat) + s.eps) + s.weight_decay * p;
    param_square += p * p;
    update_square += update[i] * update[i];
    EXPECT_NEAR(actual.m[i], m, 1e-6);
    EXPECT_NEAR(actual.v[i], v, 1e-6);
  }
  const double trust = std::sqrt(param_square) / std::sqrt(update_square);
  for (int64_t i = 0; i < kN; ++i) {
    EXPECT_NEAR(actual.p[i], start.p[i] - s.lr * trust * update[i], 2e-6) << i;
  }
}

TEST(OptimizerKernels, LambTrustsFullyWhereANormIsZero) {
  const float x = 1;
  const NormPartial one = PartialNorm(&x, 1), zero;
  EXPECT_EQ(LambTrustRatio({zero, one}), 1);
  EXPECT_EQ(LambTrustRatio({one, zero}), 1);
}

// What the f32 update has been since the first weights were hashed, statement by statement.
TEST(OptimizerKernels, AdamInF32KeepsTheBitsOfItsPlainLoop) {
  constexpr int64_t kN = 4099;
  for (const bool decoupled : {true, false}) {
    Arrays a(kN, 0, DType::kF32, DType::kF32, false);
    Arrays b = a;
    AdamScalars s;
    s.decoupled = decoupled;
    s.step = 7;
    s.grad_scale = 0.731f;
    const float* g = static_cast<const float*>(a.G(0));
    AdamUpdate(a.P(0), g, a.M(0), a.V(0), kN, s);
    const double bias1 = 1 - std::pow(s.beta1, 7.0);
    const float bias2_sqrt = static_cast<float>(std::sqrt(1 - std::pow(s.beta2, 7.0)));
    const float decay = static_cast<float>(decoupled ? 1 - s.lr * s.weight_decay : s.weight_decay);
    const float c1 = static_cast<float>(1 - s.beta1), c2 = static_cast<float>(1 - s.beta2);
    const float step_size = static_cast<float>(s.lr / bias1);
    for (int64_t i = 0; i < kN; ++i) {
      float grad = g[i] * s.grad_scale, param = b.p[i];
      if (decoupled) {
        param = param * decay;
      } else {
        grad = grad + decay * param;
      }
      const float first = b.m[i] + (grad - b.m[i]) * c1;
      const float second = b.v[i] * static_cast<float>(s.beta2) + c2 * grad * grad;
      const float denominator = std::sqrt(second) / bias2_sqrt + static_cast<float>(s.eps);
      b.p[i] = param - step_size * (first / denominator);
      b.m[i] = first;
      b.v[i] = second;
    }
    EXPECT_TRUE(a == b) << decoupled;
  }
}

TEST(OptimizerKernels, SgdInF32KeepsTheBitsOfItsPlainLoop) {
  constexpr int64_t kN = 4099;
  for (const bool nesterov : {false, true}) {
    Arrays a(kN, 0, DType::kF32, DType::kF32, false);
    Arrays b = a;
    SgdScalars s;
    s.nesterov = nesterov;
    s.weight_decay = 0.02;
    s.grad_scale = 0.731f;
    const float* g = static_cast<const float*>(a.G(0));
    SgdUpdate(a.P(0), g, a.M(0), kN, s);
    const float lr = static_cast<float>(s.lr), momentum = static_cast<float>(s.momentum);
    for (int64_t i = 0; i < kN; ++i) {
      const float grad = g[i] * s.grad_scale + static_cast<float>(s.weight_decay) * b.p[i];
      b.m[i] = momentum * b.m[i] + grad;
      b.p[i] = b.p[i] - lr * (nesterov ? grad + momentum * b.m[i] : b.m[i]);
    }
    EXPECT_TRUE(a == b) << nesterov;
  }
}

TEST(OptimizerKernels, TheCopyIsTheNewParameterRoundedAndEveryNanIsTheSame) {
  constexpr int64_t kN = 5000;
  for (const NamedUpdate& u : AllUpdates()) {
    for (const DType type : kFormats) {
      Arrays a(kN, 0, DType::kF32, type, true);
      ASSERT_TRUE(u.update(a, 0, kN, Options(DType::kF32, type, true, BestIsa())).ok());
      std::vector<char> expected = Encode(a.p, type);
      expected.back() = 'x';
      EXPECT_TRUE(a.copy == expected) << u.name << " " << Name(type);
      int nans = 0;
      for (float x : a.p) {
        uint32_t bits;
        std::memcpy(&bits, &x, sizeof(bits));
        EXPECT_TRUE(!std::isnan(x) || bits == 0x7fc00000u) << bits;
        nans += std::isnan(x);
      }
      EXPECT_GT(nans, 10) << u.name;
    }
  }
}

TEST(OptimizerKernels, SixteenBitGradientsCountAsTheirValueInF32) {
  constexpr int64_t kN = 5000;
  for (const NamedUpdate& u : AllUpdates()) {
    for (const DType type : {DType::kBF16, DType::kF16}) {
      Arrays half(kN, 0, type, DType::kF32, true);
      Arrays whole(kN, 0, DType::kF32, DType::kF32, true);
      std::vector<float> g(kN);
      for (int64_t i = 0; i < kN; ++i) {
        uint16_t bits;
        std::memcpy(&bits, half.G(i), sizeof(bits));
        g[i] = type == DType::kBF16 ? FromBF16(bits) : FromF16(bits);
      }
      whole.g = Encode(g, DType::kF32);
      ASSERT_TRUE(u.update(half, 0, kN, Options(type, DType::kF32, true, BestIsa())).ok());
      ASSERT_TRUE(u.update(whole, 0, kN, Options(DType::kF32, DType::kF32, true, BestIsa())).ok());
      EXPECT_EQ(half.copy, whole.copy) << u.name << " " << Name(type);
    }
  }
}

TEST(OptimizerKernels, TypesAndProcessorsThatCannotBeAreNamed) {
  Arrays a(4, 0, DType::kF32, DType::kF32, false);
  for (const NamedUpdate& u : AllUpdates()) {
    UpdateOptions o;
    o.grad = DType::kI64;
    EXPECT_NE(u.update(a, 0, 4, o).message().find("gradients of type i64"), std::string::npos);
    o = Options(DType::kF32, DType::kU8, true, BestIsa());
    EXPECT_NE(u.update(a, 0, 4, o).message().find("a copy of type u8"), std::string::npos);
    o = UpdateOptions();
    o.isa = Isa::kAvx512;
    if (!Supported(o.isa)) {
      EXPECT_NE(u.update(a, 0, 4, o).message().find("avx512 is not available here"),
                std::string::npos);
    }
  }
}

}  // namespace
}  // namespace millrace
