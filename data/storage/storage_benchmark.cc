// 2-core AMD EPYC VM, ext4 on a virtual drive, 2026-11-21, Linux 6.18, g++ 12.2. One file of 1 GiB, passes of 1 MiB x 8,
// direct; medians of 4 or 5 rounds beside fio 3.33 (tools/peers/storage_peer.py) with the same io_uring, depth and
// registered buffers. Other builds never stopped; "busy" is twice as many threads as cores, where what takes more of
// the processor loses more:
//
//                        of fio in huge pages: calm      busy     of fio in small pages (its default), busy
//   write                4.13 GB/s   0.97         2.68   1.18     3.89   1.79
//   write without sums   4.57        1.10         2.85   1.09     3.50   2.16
//   write staged         3.95        0.93         2.14   0.88     0.66   0.53
//   read                 2.03        1.00         1.15   0.77     1.33   1.35
//   read without sums    2.18        1.01         1.41   0.97     1.90   1.99
//   read staged          1.83        0.80         1.09   0.78     1.19   1.19
//   fio write, read      4.16, 2.09               2.06, 1.50      1.80, 0.94
//
// The drive takes 254 segments a request, so 1 MiB of small pages is two requests. Staged is what memory off page
// boundaries costs: a copy. Sums: 17.7 GiB/s per core from memory (aim: 15 GB/s; a plain sum of words reads 16.9), 19
// from the cache, 1.9 by table. The probe takes 0.7 to 0.9 s and finishes 3 or 4 pairs on a busy machine.
//
//   MILLRACE_STORAGE_FOLDER=/nvme bazel-bin/data/storage/storage_benchmark
//
// MILLRACE_STORAGE_BLOCK and MILLRACE_STORAGE_DEPTH change the block's bytes and the depth.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "benchmark/benchmark.h"
#include "data/storage/crc32c.h"
#include "data/storage/page_memory.h"
#include "data/storage/storage_file.h"
#include "data/storage/storage_probe.h"

namespace millrace {
namespace {

constexpr int64_t kFileBytes = int64_t{1} << 30;
constexpr int64_t kMemoryBytes = int64_t{256} << 20;

std::string Folder() {
  for (const char* name : {"MILLRACE_STORAGE_FOLDER", "TMPDIR"}) {
    if (const char* folder = std::getenv(name)) return folder;
  }
  return "/tmp";
}

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atoll(text) : otherwise;
}

// One pass over the file in one call. The pieces take turns in a memory larger than any cache.
void Pass(benchmark::State& state, bool write, StorageFile::Engine engine, bool aligned,
          bool checksum) {
  StorageFile::Options options;
  options.path = Folder() + "/millrace_storage_benchmark";
  options.bytes = kFileBytes;
  options.engine = engine;
  options.checksum = checksum;
  options.block_bytes = FromEnvironment("MILLRACE_STORAGE_BLOCK", options.block_bytes);
  options.queue_depth =
      static_cast<int>(FromEnvironment("MILLRACE_STORAGE_DEPTH", options.queue_depth));
  absl::StatusOr<std::unique_ptr<StorageFile>> file = StorageFile::Create(options);
  if (!file.ok()) return state.SkipWithError(file.status().ToString().c_str());
  const PageMemory memory(kMemoryBytes + kPageBytes, /*populate=*/true);
  for (int64_t i = 0; i < kMemoryBytes; i += 8) {
    *reinterpret_cast<int64_t*>(memory.data() + i) = i * 0x9E3779B97F4A7C15;
  }
  std::vector<StorageFile::Piece> pieces;
  for (int64_t offset = 0; offset < kFileBytes; offset += kMemoryBytes) {
    pieces.push_back({offset, memory.data() + (aligned ? 0 : 64), kMemoryBytes});
  }
  absl::Status status = (*file)->Write(pieces);  // reserved pages become data
  for (auto _ : state) {
    if (status.ok()) status = write ? (*file)->Write(pieces) : (*file)->Read(pieces);
  }
  if (!status.ok()) state.SkipWithError(status.ToString().c_str());
  state.SetBytesProcessed(state.iterations() * kFileBytes);
  state.SetLabel((*file)->description());
}

using Engine = StorageFile::Engine;
#define STORAGE_CASE(name, write, engine, aligned, checksum)                         \
  void BM_##name(benchmark::State& s) { Pass(s, write, engine, aligned, checksum); } \
  BENCHMARK(BM_##name)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(2)

STORAGE_CASE(Write, true, Engine::kIoUring, true, true);
STORAGE_CASE(WriteWithoutSums, true, Engine::kIoUring, true, false);
STORAGE_CASE(WriteStaged, true, Engine::kIoUring, false, true);
STORAGE_CASE(WriteThreads, true, Engine::kThreads, true, true);
STORAGE_CASE(Read, false, Engine::kIoUring, true, true);
STORAGE_CASE(ReadWithoutSums, false, Engine::kIoUring, true, false);
STORAGE_CASE(ReadStaged, false, Engine::kIoUring, false, true);
STORAGE_CASE(ReadThreads, false, Engine::kThreads, true, true);

// What a run pays before it begins, and what it learns.
void BM_Probe(benchmark::State& state) {
  std::string label;
  for (auto _ : state) {
    const absl::StatusOr<StorageProbe> probe = ProbeStorage({.folder = Folder()});
    if (!probe.ok()) return state.SkipWithError(probe.status().ToString().c_str());
    label = probe->best.engine;
    for (const StorageRates& r : probe->tried) {
      absl::StrAppendFormat(&label, "\n    %4d KiB x %2d: write %.2f, read %.2f GB/s",
                            r.block_bytes >> 10, r.queue_depth, r.write_bytes_per_second / 1e9,
                            r.read_bytes_per_second / 1e9);
    }
  }
  state.SetLabel(label);
}
BENCHMARK(BM_Probe)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(1);

// A block that was just moved: in the cache when it was staged, not when it was moved directly.
void BM_Crc32cPages(benchmark::State& state) {
  const int64_t bytes = state.range(0);
  const PageMemory memory(bytes, /*populate=*/true);
  std::vector<uint32_t> sums(bytes / kPageBytes);
  for (auto _ : state) {
    Crc32cPages(memory.data(), bytes / kPageBytes, sums.data());
    benchmark::DoNotOptimize(sums.data());
  }
  state.SetBytesProcessed(state.iterations() * bytes);
}
BENCHMARK(BM_Crc32cPages)->Arg(256 << 10)->Arg(256 << 20);

void BM_Crc32cByTable(benchmark::State& state) {
  const PageMemory memory(1 << 20, /*populate=*/true);
  for (auto _ : state) benchmark::DoNotOptimize(Crc32cByTable(memory.data(), memory.bytes()));
  state.SetBytesProcessed(state.iterations() * memory.bytes());
}
BENCHMARK(BM_Crc32cByTable);

}  // namespace
}  // namespace millrace
