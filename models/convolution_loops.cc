#include "models/convolution_loops.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "models/gemm.h"

namespace millrace {
namespace {

constexpr int64_t kBlockRows = 256;  // output places per matrix product
constexpr int64_t kChunkColumns =
    640;  // about as many columns: a block of them fits a core's own cache
constexpr int64_t kChannelMultiple = 16;  // one cache line

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// 0..n in equal parts of at most `limit`.
struct Parts {
  Parts(int64_t n, int64_t limit) : n(n), count(std::max<int64_t>(1, CeilDiv(n, limit))) {
    size = CeilDiv(n, count);
    count = std::max<int64_t>(1, CeilDiv(n, size));
  }
  int64_t begin(int64_t i) const { return i * size; }
  int64_t end(int64_t i) const { return std::min(n, (i + 1) * size); }
  int64_t n, count, size;
};

// Widest slice of a product's columns: narrower where few rows leave threads without work.
int64_t SliceLimit(int64_t rows) { return rows >= 2048 ? 1024 : rows >= kBlockRows ? 128 : 64; }

template <typename F>
void ParallelFor(int64_t n, const F& f) {
  at::parallel_for(0, n, 1, [&f](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

void Copy(const float* from, int64_t n, float* to) {
  for (; n >= 16; n -= 16, from += 16, to += 16) std::memcpy(to, from, 64);
  for (; n > 0; --n) *to++ = *from++;
}
void Add(const float* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; ++i) to[i] += from[i];
}

struct Chunk {
  int64_t first, channels, columns;
};

class Columns {
 public:
  Columns(const ConvShape& s, int threads)
      : s_(s),
        channel_major_(!s.transposes_weights() && s.offsets() > 1),
        superblock_(std::min(s.rows(), kBlockRows * threads)) {}

  int64_t superblock() const { return superblock_; }
  int64_t chunks() const { return CeilDiv(s_.in_channels, s_.chunk_channels()); }
  Chunk chunk(int64_t i) const {
    const int64_t first = i * s_.chunk_channels();
    const int64_t channels = std::min(s_.chunk_channels(), s_.in_channels - first);
    return {first, channels, channels * s_.offsets()};
  }

  // What the places of rows [first, last) see of the chunk.
  void Gather(const float* x, const Chunk& c, int64_t first, int64_t last, float* columns) const {
    const Parts parts(last - first, 32);
    ParallelFor(parts.count, [&](int64_t i) {
      for (int64_t r = parts.begin(i); r < parts.end(i); ++r) {
        GatherRow(x, c, first + r, columns + r * c.columns);
      }
    });
  }

  // Adds columns back to where they came from. A token's additions come in the order of the rows, however rows are
  // grouped into calls.
  void Scatter(const float* columns, const Chunk& c, int64_t first, int64_t last, float* dx) const {
    const int64_t plane = s_.out[1] * s_.out[2], line = s_.in[1] * s_.in[2];
    for (int64_t b = first / s_.out_tokens(); b * s_.out_tokens() < last; ++b) {
      const int64_t row0 = b * s_.out_tokens();  // of the sample
      const int64_t low = std::max(first - row0, int64_t{0}) / plane;
      const int64_t high = (std::min(last - row0, s_.out_tokens()) - 1) / plane;
      const int64_t begin = std::max(low * s_.stride[0] - s_.pad[0], int64_t{0});
      const int64_t end = std::min(high * s_.stride[0] - s_.pad[0] + s_.kernel[0], s_.in[0]);
      if (begin >= end) continue;
      const Parts parts((end - begin) * line, 64);
      ParallelFor(parts.count, [&](int64_t i) {
        for (int64_t t = parts.begin(i); t < parts.end(i); ++t) {
          const int64_t token = begin * line + t;
          ScatterToken(columns, c, token, first - row0, last - row0,
                       dx + (b * s_.in_tokens() + token) * s_.in_channels + c.first);
        }
      });
    }
  }

 private:
  void GatherRow(const float* x, const Chunk& c, int64_t row, float* to) const {
    const int64_t q2 = row % s_.out[2], q1 = row / s_.out[2] % s_.out[1];
    const int64_t q0 = row / (s_.out[2] * s_.out[1]) % s_.out[0], b = row / s_.out_tokens();
    const int64_t i2 = q2 * s_.stride[2] - s_.pad[2], width = s_.kernel[2];
    const int64_t low = std::clamp(-i2, int64_t{0}, width);
    const int64_t high = std::clamp(s_.in[2] - i2, low, width);
    int64_t offset = 0;
    for (int64_t p0 = 0; p0 < s_.kernel[0]; ++p0) {
      const int64_t i0 = q0 * s_.stride[0] - s_.pad[0] + p0;
      for (int64_t p1 = 0; p1 < s_.kernel[1]; ++p1, offset += width) {
        const int64_t i1 = q1 * s_.stride[1] - s_.pad[1] + p1;
        const bool inside = i0 >= 0 && i0 < s_.in[0] && i1 >= 0 && i1 < s_.in[1];
        const int64_t token = ((b * s_.in[0] + i0) * s_.in[1] + i1) * s_.in[2] + i2;
        const float* from = x + token * s_.in_channels + c.first;
        const int64_t from_low = inside ? low : width, from_high = inside ? high : width;
        if (channel_major_) {
          GatherTransposed(from, c, offset, from_low, from_high, to);
        } else {
          GatherRuns(from, c, from_low, from_high, to + offset * c.channels);
        }
      }
    }
  }

  // Kernel places low..high along the last axis have a source; `from` is that of place 0.
  void GatherRuns(const float* from, const Chunk& c, int64_t low, int64_t high, float* to) const {
    const int64_t width = s_.kernel[2];
    std::fill(to, to + low * c.channels, 0.0f);
    if (c.channels == s_.in_channels) {
      Copy(from + low * c.channels, (high - low) * c.channels, to + low * c.channels);
    } else {
      for (int64_t p = low; p < high; ++p) {
        Copy(from + p * s_.in_channels, c.channels, to + p * c.channels);
      }
    }
    std::fill(to + high * c.channels, to + width * c.channels, 0.0f);
  }
  void GatherTransposed(const float* from, const Chunk& c, int64_t offset, int64_t low,
                        int64_t high, float* to) const {
    const int64_t width = s_.kernel[2], offsets = s_.offsets();
    for (int64_t p = 0; p < width; ++p) {
      float* place = to + offset + p;
      if (p >= low && p < high) {
        const float* run = from + p * s_.in_channels;
        for (int64_t k = 0; k < c.channels; ++k) place[k * offsets] = run[k];
      } else {
        for (int64_t k = 0; k < c.channels; ++k) place[k * offsets] = 0;
      }
    }
  }

  // All rows in [first, last) of the sample that see `token`: along an axis, place q sees it by kernel offset
  // i + pad - q * stride.
  void ScatterToken(const float* columns, const Chunk& c, int64_t token, int64_t first,
                    int64_t last, float* to) const {
    const int64_t i[3] = {token / (s_.in[1] * s_.in[2]), token / s_.in[2] % s_.in[1],
                          token % s_.in[2]};
    int64_t low[3], high[3];
    for (int a = 0; a < 3; ++a) {
      const int64_t reach = i[a] + s_.pad[a];
      low[a] = reach < s_.kernel[a] ? 0 : (reach - s_.kernel[a]) / s_.stride[a] + 1;
      high[a] = std::min(s_.out[a], reach / s_.stride[a] + 1);
    }
    for (int64_t q0 = low[0]; q0 < high[0]; ++q0) {
      const int64_t p0 = i[0] + s_.pad[0] - q0 * s_.stride[0];
      for (int64_t q1 = low[1]; q1 < high[1]; ++q1) {
        const int64_t p1 = i[1] + s_.pad[1] - q1 * s_.stride[1];
        const int64_t row0 = (q0 * s_.out[1] + q1) * s_.out[2];
        const int64_t begin = std::max(low[2], first - row0), end = std::min(high[2], last - row0);
        for (int64_t q2 = begin; q2 < end; ++q2) {
          const int64_t p2 = i[2] + s_.pad[2] - q2 * s_.stride[2];
          const int64_t offset = (p0 * s_.kernel[1] + p1) * s_.kernel[2] + p2;
          const float* row = columns + (row0 + q2 - first) * c.columns;
          if (channel_major_) {
            for (int64_t k = 0; k < c.channels; ++k) to[k] += row[k * s_.offsets() + offset];
          } else {
            Add(row + offset * c.channels, c.channels, to);
          }
        }
      }
    }
  }

  const ConvShape& s_;
  const bool channel_major_;
  const int64_t superblock_;
};

// The chunk's weights [out, columns] in the order of the columns: where they are, or transposed into scratch.
GemmMatrix ChunkWeights(const ConvShape& s, const Chunk& c, const float* w, float* scratch) {
  const int64_t stride = s.in_channels * s.offsets();
  const float* from = w + c.first * s.offsets();
  if (!s.transposes_weights()) return {from, stride};
  ParallelFor(s.out_channels, [&](int64_t o) {
    const float* row = from + o * stride;
    float* to = scratch + o * c.columns;
    for (int64_t p = 0; p < s.offsets(); ++p) {
      for (int64_t k = 0; k < c.channels; ++k) to[p * c.channels + k] = row[k * s.offsets() + p];
    }
  });
  return {scratch, c.columns};
}

void Fill(float* data, int64_t rows, int64_t columns, const float* bias) {
  const Parts parts(rows, 1024);
  ParallelFor(parts.count, [&](int64_t i) {
    for (int64_t r = parts.begin(i); r < parts.end(i); ++r) {
      float* to = data + r * columns;
      if (bias == nullptr) {
        std::memset(to, 0, static_cast<size_t>(columns) * sizeof(float));
      } else {
        std::memcpy(to, bias, static_cast<size_t>(columns) * sizeof(float));
      }
    }
  });
}

}  // namespace

bool ConvShape::pointwise() const {
  return offsets() == 1 && in == out && pad == Axes{0, 0, 0} && stride == Axes{1, 1, 1};
}
bool ConvShape::transposes_weights() const { return offsets() > 1 && rows() > out_channels; }

int64_t ConvShape::chunk_channels() const {
  if (pointwise()) return in_channels;
  const int64_t wanted = std::max<int64_t>(1, kChunkColumns / offsets());
  if (wanted >= in_channels) return in_channels;
  const int64_t aligned = std::max(wanted / kChannelMultiple, int64_t{1}) * kChannelMultiple;
  return std::min(aligned, in_channels);
}

int64_t ConvShape::column_floats(int threads) const {
  if (pointwise()) return 0;
  return std::min(rows(), kBlockRows * threads) * chunk_channels() * offsets();
}
int64_t ConvShape::weight_floats() const {
  return transposes_weights() ? out_channels * chunk_channels() * offsets() : 0;
}

void ConvForward(const ConvShape& s, const float* x, const float* w, const float* bias, float* y,
                 const ConvScratch& scratch) {
  const OneGemmThread one_thread;
  const Columns columns(s, scratch.threads);
  const int64_t rows = s.rows(), out = s.out_channels;
  if (bias != nullptr) Fill(y, rows, out, bias);
  const Parts slices(out, SliceLimit(rows));
  for (int64_t i = 0; i < columns.chunks(); ++i) {
    const Chunk c = columns.chunk(i);
    const GemmMatrix weights = ChunkWeights(s, c, w, scratch.weights);
    for (int64_t first = 0; first < rows; first += columns.superblock()) {
      const int64_t last = std::min(rows, first + columns.superblock());
      const float* a = s.pointwise() ? x + first * c.columns : scratch.columns;
      if (!s.pointwise()) columns.Gather(x, c, first, last, scratch.columns);
      const int64_t blocks = CeilDiv(last - first, kBlockRows);
      ParallelFor(blocks * slices.count, [&](int64_t k) {
        const int64_t row = k / slices.count * kBlockRows, slice = k % slices.count;
        const int64_t begin = slices.begin(slice);
        Gemm({std::min(kBlockRows, last - first - row), slices.end(slice) - begin, c.columns},
             {a + row * c.columns, c.columns},
             {weights.data + begin * weights.stride, weights.stride, /*transposed=*/true},
             y + (first + row) * out + begin, out, /*add=*/i > 0 || bias != nullptr);
      });
    }
  }
}

void ConvInputSum(const ConvShape& s, const float* dy, const float* w, const float* bias, float* dx,
                  const ConvScratch& scratch) {
  const OneGemmThread one_thread;
  const Columns columns(s, scratch.threads);
  const int64_t rows = s.rows(), out = s.out_channels;
  const bool in_place = s.pointwise();
  if (!in_place || bias != nullptr) Fill(dx, s.batch * s.in_tokens(), s.in_channels, bias);
  for (int64_t i = 0; i < columns.chunks(); ++i) {
    const Chunk c = columns.chunk(i);
    const GemmMatrix weights = ChunkWeights(s, c, w, scratch.weights);
    const Parts slices(c.columns, std::max<int64_t>(256, SliceLimit(rows)));
    for (int64_t first = 0; first < rows; first += columns.superblock()) {
      const int64_t last = std::min(rows, first + columns.superblock());
      float* to = in_place ? dx + first * c.columns : scratch.columns;
      const int64_t blocks = CeilDiv(last - first, kBlockRows);
      ParallelFor(blocks * slices.count, [&](int64_t k) {
        const int64_t row = k / slices.count * kBlockRows, slice = k % slices.count;
        const int64_t begin = slices.begin(slice);
        Gemm({std::min(kBlockRows, last - first - row), slices.end(slice) - begin, out},
             {dy + (first + row) * out, out}, {weights.data + begin, weights.stride},
             to + row * c.columns + begin, c.columns, /*add=*/in_place && bias != nullptr);
      });
      if (!in_place) columns.Scatter(scratch.columns, c, first, last, dx);
    }
  }
}

void ConvWeightSum(const ConvShape& s, const float* x, const float* dy, float* dw,
                   const ConvScratch& scratch) {
  const OneGemmThread one_thread;
  const Columns columns(s, scratch.threads);
  const int64_t rows = s.rows(), out = s.out_channels;
  const Parts out_slices(out, 256);
  for (int64_t i = 0; i < columns.chunks(); ++i) {
    const Chunk c = columns.chunk(i);
    const bool transposed = s.transposes_weights();
    const int64_t stride = transposed ? c.columns : s.in_channels * s.offsets();
    float* sums = transposed ? scratch.weights : dw + c.first * s.offsets();
    const Parts slices(c.columns, 320);
    for (int64_t first = 0; first < rows; first += columns.superblock()) {
      const int64_t last = std::min(rows, first + columns.superblock());
      const float* b = s.pointwise() ? x + first * c.columns : scratch.columns;
      if (!s.pointwise()) columns.Gather(x, c, first, last, scratch.columns);
      ParallelFor(out_slices.count * slices.count, [&](int64_t k) {
        const int64_t o = out_slices.begin(k / slices.count),
                      begin = slices.begin(k % slices.count);
        const int64_t m = out_slices.end(k / slices.count) - o;
        const int64_t n = slices.end(k % slices.count) - begin;
        for (int64_t row = 0; row < last - first; row += kBlockRows) {
          Gemm({m, n, std::min(kBlockRows, last - first - row)},
               {dy + (first + row) * out + o, out, /*transposed=*/true},
               {b + row * c.columns + begin, c.columns}, sums + o * stride + begin, stride,
               /*add=*/first + row > 0);
        }
      });
    }
    if (!transposed) continue;
    ParallelFor(out, [&](int64_t o) {
      const float* from = sums + o * stride;
      float* to = dw + (o * s.in_channels + c.first) * s.offsets();
      for (int64_t k = 0; k < c.channels; ++k) {
        for (int64_t p = 0; p < s.offsets(); ++p)
          to[k * s.offsets() + p] = from[p * c.channels + k];
      }
    });
  }
}

void ColumnSums(const float* data, int64_t rows, int64_t columns, float* sums) {
  // Sums of blocks of rows, then their sum: few roundings.
  const Parts slices(columns, 64);
  ParallelFor(slices.count, [&](int64_t k) {
    const int64_t begin = slices.begin(k), n = slices.end(k) - begin;
    float block[64];
    std::fill(sums + begin, sums + begin + n, 0.0f);
    for (int64_t first = 0; first < rows; first += kBlockRows) {
      std::fill(block, block + n, 0.0f);
      for (int64_t r = first; r < std::min(rows, first + kBlockRows); ++r) {
        Add(data + r * columns + begin, n, block);
      }
      Add(block, n, sums + begin);
    }
  });
}

}  // namespace millrace
