// CRC32C (Castagnoli, RFC 3720) of storage pages: what is read back from a drive is what was written, or the read
// fails. One sum per page of 4096 bytes lets an error name the page, and lets several pages be summed side by side:
// the processor's instruction takes 8 bytes a cycle, but its result comes three cycles later.
//
//   std::vector<uint32_t> sums(pages);
//   Crc32cPages(memory, pages, sums.data());
#ifndef MILLRACE_DATA_STORAGE_CRC32C_H_
#define MILLRACE_DATA_STORAGE_CRC32C_H_

#include <cstdint>

namespace millrace {

inline constexpr int64_t kPageBytes = 4096;

// The sum of any bytes. Chooses SSE4.2 where the processor has it.
uint32_t Crc32c(const void* data, int64_t bytes);

// sums[i] = Crc32c(page i).
void Crc32cPages(const void* data, int64_t pages, uint32_t* sums);

// The reference, by tables: what runs on other processors.
uint32_t Crc32cByTable(const void* data, int64_t bytes);

// True when the processor's instruction is used.
bool Crc32cInHardware();

}  // namespace millrace

#endif  // MILLRACE_DATA_STORAGE_CRC32C_H_
