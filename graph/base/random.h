// Random numbers that are a pure function of (seed, stream, index): no hidden state, so a shuffled
// order, an augmentation, a dropout mask or an initial weight is the same whichever thread, rank or
// process computes it, in whatever order, and after any restart.
//
// The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// 2011): the 64-bit seed is the key, (index, stream) the 128-bit counter, and every block of 128
// bits is good by itself. It passes TestU01's BigCrush and needs nothing but 32 x 32 -> 64 bit
// products.
//
//   CounterRng rng(seed, HashString("blocks.0.mlp.fc1.weight"));     // one stream per purpose
//   for (int64_t i = 0; i < n; ++i) weight[i] = 0.02 * rng.Normal(i);
//
//   CounterRng drop(seed, HashCombine(HashString("dropout.3"), step));
//   keep[i] = drop.Uniform(i) >= p;
//
// One index is one block, whatever is drawn from it: U32(7), Uniform(7) and Normal(7) of one stream
// are functions of the same bits, so give independent quantities different indices or streams. Code
// that needs four words at the price of one takes Block(index).
//
// Everything but Normal is integer arithmetic and exact scaling, the same on every machine. Normal
// uses libm's log, cos and sqrt; two C libraries may differ in its last bit.
//
// Thread-safe: all methods are const.
#ifndef MILLRACE_GRAPH_BASE_RANDOM_H_
#define MILLRACE_GRAPH_BASE_RANDOM_H_

#include <array>
#include <cmath>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace millrace {

// FNV-1a, 64 bits: turns a name into a stream. The value is part of what makes runs repeatable, so
// it never changes (absl::Hash is salted per process and would not do).
constexpr uint64_t HashString(absl::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

// Mixes a number (epoch, step, micro-batch) into a stream; splitmix64's finaliser, so that
// neighbouring numbers give unrelated streams.
constexpr uint64_t HashCombine(uint64_t stream, uint64_t number) {
  uint64_t z = stream + 0x9e3779b97f4a7c15u * (number + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// The bare Philox4x32-10 function: 128 bits of counter and 64 bits of key to 128 random bits.
constexpr std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter,
                                             std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return counter;
}

class CounterRng {
 public:
  constexpr explicit CounterRng(uint64_t seed, uint64_t stream = 0)
      : seed_(seed), stream_(stream) {}

  // The 128 random bits that belong to `index`.
  constexpr std::array<uint32_t, 4> Block(uint64_t index) const {
    return Philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                       static_cast<uint32_t>(stream_), static_cast<uint32_t>(stream_ >> 32)},
                      {static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)});
  }

  constexpr uint32_t U32(uint64_t index) const { return Block(index)[0]; }

  constexpr uint64_t U64(uint64_t index) const {
    const auto b = Block(index);
    return Join(b[0], b[1]);
  }

  // In [0, 1), 53 random bits.
  constexpr double Uniform(uint64_t index) const { return Unit(U64(index)); }

  // In [0, n), n > 0, by a multiplication: each value's probability is within 2^-64 of 1/n.
  constexpr uint64_t Below(uint64_t index, uint64_t n) const {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(U64(index)) * n) >> 64);
  }

  // Mean 0, standard deviation 1 (Box-Muller on the block's two 64-bit halves; |value| < 8.6).
  double Normal(uint64_t index) const {
    const auto b = Block(index);
    const double radius = std::sqrt(-2.0 * std::log(1.0 - Unit(Join(b[0], b[1]))));
    return radius * std::cos(6.283185307179586476925 * Unit(Join(b[2], b[3])));
  }

 private:
  static constexpr uint64_t Join(uint32_t low, uint32_t high) {
    return uint64_t{low} | (uint64_t{high} << 32);
  }
  static constexpr double Unit(uint64_t bits) {
    return static_cast<double>(bits >> 11) * (1.0 / 9007199254740992.0);
  }

  uint64_t seed_;
  uint64_t stream_;
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_BASE_RANDOM_H_
