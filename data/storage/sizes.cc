#include "data/storage/sizes.h"

#include <sys/statvfs.h>

#include <limits>

#include "absl/strings/str_format.h"

namespace millrace {

std::string BytesText(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  for (; unit < 4 && value >= 1024; ++unit) value /= 1024;
  return absl::StrFormat("%.4g %s", value, kUnits[unit]);
}

int64_t FreeBytes(const std::string& path) {
  struct statvfs room;
  if (statvfs(path.c_str(), &room) != 0 || room.f_blocks == 0) {
    return std::numeric_limits<int64_t>::max();
  }
  return static_cast<int64_t>(room.f_bavail) * static_cast<int64_t>(room.f_frsize);
}

}  // namespace millrace
