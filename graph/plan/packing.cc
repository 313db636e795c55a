#include "graph/plan/packing.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "graph/base/random.h"

namespace millrace {
namespace {

constexpr size_t kTryAllOrders = 8000;

int64_t Length(const Block& b) { return b.live.death - b.live.birth + 1; }

class Packer {
 public:
  explicit Packer(const std::vector<Block>& blocks) : blocks_(blocks) {}

  // Each block at the lowest offset that fits. `by_birth`: the order is that of birth, so blocks that are dead
  // by now stay dead and are forgotten.
  Packing Place(const std::vector<int>& order, std::string name, bool by_birth) {
    Packing packing;
    packing.order = std::move(name);
    packing.offset.assign(blocks_.size(), 0);
    placed_.clear();
    for (int i : order) {
      const Block& block = blocks_[i];
      if (by_birth) {
        placed_.erase(std::remove_if(placed_.begin(), placed_.end(),
                                     [&](const Placed& p) { return p.death < block.live.birth; }),
                      placed_.end());
      }
      int64_t offset = 0;
      for (const Placed& p : placed_) {
        if (p.death < block.live.birth || p.birth > block.live.death) continue;
        if (p.offset - offset >= block.bytes) break;
        offset = std::max(offset, p.end);
      }
      packing.offset[i] = offset;
      packing.bytes = std::max(packing.bytes, offset + block.bytes);
      const Placed placed{offset, offset + block.bytes, block.live.birth, block.live.death};
      placed_.insert(
          std::upper_bound(placed_.begin(), placed_.end(), placed,
                           [](const Placed& a, const Placed& b) { return a.offset < b.offset; }),
          placed);
    }
    return packing;
  }

 private:
  struct Placed {
    int64_t offset, end;
    int birth, death;
  };
  const std::vector<Block>& blocks_;
  std::vector<Placed> placed_;  // by offset
};

template <typename KeyOf>
std::vector<int> OrderBy(const std::vector<Block>& blocks, KeyOf key) {
  std::vector<int> order(blocks.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return key(blocks[a]) < key(blocks[b]); });
  return order;
}

}  // namespace

Packing Pack(const std::vector<Block>& blocks, int64_t bound) {
  using Key = std::tuple<int64_t, int64_t, int64_t>;
  Packer packer(blocks);
  const auto by_birth = OrderBy(blocks, [](const Block& b) {
    return Key{b.live.birth, -b.bytes, b.live.death};
  });
  Packing best = packer.Place(by_birth, "by birth", true);
  std::vector<int> best_order = by_birth;
  const auto attempt = [&](const std::vector<int>& order, const std::string& name) {
    if (best.bytes <= bound) return;
    Packing packing = packer.Place(order, name, false);
    if (packing.bytes >= best.bytes) return;
    best = std::move(packing);
    best_order = order;
  };
  if (blocks.size() > kTryAllOrders) return best;
  attempt(OrderBy(blocks,
                  [](const Block& b) {
                    return Key{-b.bytes, -Length(b), b.live.birth};
                  }),
          "by size");
  attempt(OrderBy(blocks,
                  [](const Block& b) {
                    return Key{-b.bytes * Length(b), -b.bytes, b.live.birth};
                  }),
          "by area");
  attempt(OrderBy(blocks,
                  [](const Block& b) {
                    return Key{-Length(b), -b.bytes, b.live.birth};
                  }),
          "by lifetime");
  // Local search over the best order: what lies on top is placed first; where that no longer helps, a block
  // is drawn and placed earlier. The draws are fixed, so the result is.
  const CounterRng rng(HashString("packing"));
  const auto square = static_cast<int64_t>(blocks.size() * blocks.size() + 1);
  const int64_t rounds = std::min<int64_t>(2000, 50'000'000 / square);
  for (int64_t round = 0; round < rounds && best.bytes > bound; ++round) {
    std::vector<int> order = best_order;
    auto moved = std::find_if(order.begin(), order.end(), [&](int i) {
      return best.offset[i] + blocks[i].bytes == best.bytes;
    });
    auto to = order.begin();
    if (round % 2 == 1 || moved == order.begin()) {
      moved = order.begin() + static_cast<int64_t>(rng.Below(2 * round, order.size()));
      to =
          order.begin() + static_cast<int64_t>(rng.Below(2 * round + 1, moved - order.begin() + 1));
    }
    std::rotate(to, moved, moved + 1);
    Packing next = packer.Place(order, best.order, false);
    if (next.bytes > best.bytes) continue;  // as good: go on from there
    if (next.bytes < best.bytes && best.order.find("improved") == std::string::npos) {
      next.order += ", improved";
    }
    best = std::move(next);
    best_order = std::move(order);
  }
  return best;
}

}  // namespace millrace
