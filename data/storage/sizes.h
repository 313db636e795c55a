// Bytes as people read them in the messages of data/storage, and how many a drive has left.
#ifndef MILLRACE_DATA_STORAGE_SIZES_H_
#define MILLRACE_DATA_STORAGE_SIZES_H_

#include <cstdint>
#include <string>

namespace millrace {

// "12.5 GiB", "1 MiB", "256 KiB".
std::string BytesText(int64_t bytes);

// What this user may still write to the file system that holds `path`; the largest int64 where it sets no limit
// (ramfs, tmpfs with size=0) or does not tell.
int64_t FreeBytes(const std::string& path);

}  // namespace millrace

#endif  // MILLRACE_DATA_STORAGE_SIZES_H_
