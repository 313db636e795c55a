// The 16-bit copy where rounding is hardest: every sign and exponent, halfway between two numbers and beside it.
#include <cstring>
#include <vector>

#include "dist/kernels.h"
#include "gtest/gtest.h"
#include "ops/optimizer_kernels.h"

namespace millrace {
namespace {

TEST(OptimizerCopy, TiesGoToEvenOnEveryIsaAsInACast) {
  std::vector<float> p;
  for (uint32_t high = 0; high < 0x10000; high += 0x10) {  // 0x1000 is half of f16's last place
    for (const uint32_t low : {0x00fff, 0x01000, 0x01001, 0x03000, 0x07fff, 0x08000, 0x08001,
                               0x17fff, 0x18000, 0x18001}) {
      const uint32_t bits = high << 16 | low;
      float x;
      std::memcpy(&x, &bits, sizeof(x));
      if (x == x && x - x == 0) p.push_back(x);  // finite
    }
  }
  const int64_t n = static_cast<int64_t>(p.size());
  const std::vector<float> before = p, g(p.size());
  SgdScalars s;
  s.lr = 0;  // parameters stay what they are
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (!Supported(isa)) continue;
    for (const DType type : {DType::kBF16, DType::kF16}) {
      std::vector<uint16_t> copy(p.size());
      UpdateOptions o;
      o.copy = copy.data();
      o.copy_type = type;
      o.isa = isa;
      ASSERT_TRUE(SgdUpdate(p.data(), g.data(), nullptr, n, s, o).ok());
      ASSERT_EQ(p, before);
      for (int64_t i = 0; i < n; ++i) {
        ASSERT_EQ(copy[i], type == DType::kBF16 ? ToBF16(p[i]) : ToF16(p[i])) << Name(isa) << p[i];
      }
    }
  }
}

}  // namespace
}  // namespace millrace
