#include "data/storage/crc32c.h"

#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace millrace {
namespace {

// RFC 3720, B.4, and the check value of the polynomial.
TEST(Crc32c, BothWaysGiveTheVectorsOfRfc3720) {
  std::vector<uint8_t> up(32), down(32);
  std::iota(up.begin(), up.end(), 0);
  std::iota(down.rbegin(), down.rend(), 0);
  const uint8_t read_command[48] = {
      0x01, 0xc0, 0, 0,    0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0,
      0,    0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0,    0};
  const std::vector<std::pair<std::vector<uint8_t>, uint32_t>> vectors = {
      {std::vector<uint8_t>(32, 0), 0x8A9136AAu},
      {std::vector<uint8_t>(32, 0xFF), 0x62A8AB43u},
      {up, 0x46DD794Eu},
      {down, 0x113FDB5Cu},
      {{read_command, read_command + 48}, 0xD9963A56u},
      {{'1', '2', '3', '4', '5', '6', '7', '8', '9'}, 0xE3069283u},
      {{}, 0u},
  };
  for (const auto& [bytes, expected] : vectors) {
    EXPECT_EQ(Crc32c(bytes.data(), static_cast<int64_t>(bytes.size())), expected);
    EXPECT_EQ(Crc32cByTable(bytes.data(), static_cast<int64_t>(bytes.size())), expected);
  }
}

TEST(Crc32c, InstructionAndTableAgreeOnAnyLengthAndAlignment) {
  std::mt19937 random(1);
  std::vector<uint8_t> bytes(9000);
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
  for (int i = 0; i < 200; ++i) {
    const int64_t begin = random() % 64, length = random() % 8000;
    EXPECT_EQ(Crc32c(&bytes[begin], length), Crc32cByTable(&bytes[begin], length)) << length;
  }
}

TEST(Crc32c, PagesSideBySideHaveTheSumsOfPagesAlone) {
  std::mt19937 random(2);
  std::vector<uint8_t> bytes(11 * kPageBytes + 3);
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
  for (int64_t pages = 0; pages <= 11; ++pages) {
    std::vector<uint32_t> sums(pages);
    Crc32cPages(&bytes[3], pages, sums.data());
    for (int64_t i = 0; i < pages; ++i) {
      EXPECT_EQ(sums[i], Crc32cByTable(&bytes[3 + i * kPageBytes], kPageBytes));
    }
  }
}

}  // namespace
}  // namespace millrace
