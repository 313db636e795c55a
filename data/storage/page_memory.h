// Memory aligned to pages, as direct I/O wants it, of huge pages where the kernel has them: a drive takes a request in
// few segments (often 254, less than the 256 small pages of 1 MiB). Given back with the object.
//
//   PageMemory memory(bytes, /*populate=*/true);
//   if (memory.data() == nullptr) return absl::ResourceExhaustedError(...);
#ifndef MILLRACE_DATA_STORAGE_PAGE_MEMORY_H_
#define MILLRACE_DATA_STORAGE_PAGE_MEMORY_H_

#include <sys/mman.h>

#include <cstdint>
#include <utility>

namespace millrace {

class PageMemory {
 public:
  PageMemory() = default;
  // Zeros. `populate`: all pages are there now, not at first touch.
  PageMemory(int64_t bytes, bool populate) : bytes_(bytes) {
    void* memory = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    data_ = static_cast<char*>(memory);
    madvise(data_, static_cast<size_t>(bytes), MADV_HUGEPAGE);
    volatile char* touched = data_;
    for (int64_t i = 0; populate && i < bytes; i += 4096) touched[i] = 0;
  }
  PageMemory(PageMemory&& other) noexcept { *this = std::move(other); }
  PageMemory& operator=(PageMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~PageMemory() {
    if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
  }

  char* data() const { return data_; }  // null: there was no memory
  int64_t bytes() const { return bytes_; }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_DATA_STORAGE_PAGE_MEMORY_H_
