#include "data/safetensors/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "data/atomic_file.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxHeader = 100u << 20;  // the format's own limit

const std::pair<DType, const char*> kTypes[] = {
    {DType::kF32, "F32"}, {DType::kF64, "F64"}, {DType::kBF16, "BF16"},
    {DType::kF16, "F16"}, {DType::kI64, "I64"}, {DType::kI32, "I32"},
    {DType::kI8, "I8"},   {DType::kU8, "U8"},   {DType::kBool, "BOOL"}};

const char* TypeName(DType t) {
  for (const auto& [type, name] : kTypes) {
    if (type == t) return name;
  }
  return "F32";
}

absl::StatusOr<DType> ParseType(const std::string& text) {
  for (const auto& [type, name] : kTypes) {
    if (text == name) return type;
  }
  return absl::InvalidArgumentError(absl::StrCat("dtype '", text, "' is not supported"));
}

int64_t Numel(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

absl::Status Bad(const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": not a valid safetensors file: ", what));
}

absl::StatusOr<SafetensorsFile::Entry> ParseEntry(const std::string& name, const Json& json,
                                                  const uint8_t* data, int64_t data_bytes) {
  if (!json.is_object() || !json.contains("dtype") || !json.contains("shape") ||
      !json.contains("data_offsets") || !json["dtype"].is_string() || !json["shape"].is_array() ||
      !json["data_offsets"].is_array() || json["data_offsets"].size() != 2) {
    return absl::InvalidArgumentError(
        "expected an object with dtype, shape and data_offsets [begin, end]");
  }
  SafetensorsFile::Entry entry;
  entry.name = name;
  ASSIGN_OR_RETURN(entry.dtype, ParseType(json["dtype"].get<std::string>()));
  for (const Json& d : json["shape"]) {
    if (!d.is_number_integer() || d.get<int64_t>() < 0)
      return absl::InvalidArgumentError("shape must hold sizes >= 0");
    entry.shape.push_back(d.get<int64_t>());
  }
  for (const Json& o : json["data_offsets"]) {
    if (!o.is_number_integer()) return absl::InvalidArgumentError("data_offsets must be integers");
  }
  const int64_t begin = json["data_offsets"][0].get<int64_t>();
  const int64_t end = json["data_offsets"][1].get<int64_t>();
  if (begin < 0 || end < begin || end > data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "bytes [", begin, ", ", end, ") lie outside the file's ", data_bytes, " data bytes"));
  }
  if (end - begin != Numel(entry.shape) * SizeOf(entry.dtype)) {
    return absl::InvalidArgumentError(absl::StrCat("has ", end - begin,
                                                   " bytes, shape and dtype need ",
                                                   Numel(entry.shape) * SizeOf(entry.dtype)));
  }
  entry.data = data + begin;
  entry.bytes = end - begin;
  return entry;
}

}  // namespace

absl::Status WriteSafetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const NamedTensor& t : tensors) {
    if (header.contains(t.name))
      return absl::InvalidArgumentError(absl::StrCat(path, ": tensor '", t.name, "' twice"));
    const int64_t bytes = Numel(t.shape) * SizeOf(t.dtype);
    header[t.name] = {{"dtype", TypeName(t.dtype)},
                      {"shape", t.shape},
                      {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  RETURN_IF_ERROR(file.Append(&length, sizeof(length)));
  RETURN_IF_ERROR(file.Append(text.data(), text.size()));
  std::vector<uint8_t> turn;
  for (const NamedTensor& t : tensors) {
    const int64_t bytes = Numel(t.shape) * SizeOf(t.dtype);
    if (t.read) {
      turn.resize(bytes);
      RETURN_IF_ERROR(t.read(turn.data()));
    }
    RETURN_IF_ERROR(file.Append(t.read ? turn.data() : t.data, bytes));
  }
  return file.Commit();
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return absl::NotFoundError(absl::StrCat(path, ": cannot open: ", std::strerror(errno)));
  }
  struct stat info;
  const bool stat_ok = fstat(fd, &info) == 0;
  const size_t size = stat_ok ? static_cast<size_t>(info.st_size) : 0;
  if (!stat_ok || !S_ISREG(info.st_mode) || size < 8) {
    close(fd);
    return Bad(path, absl::StrCat("expected a header length of 8 bytes, the file has ", size));
  }
  void* map = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (map == MAP_FAILED)
    return absl::InternalError(absl::StrCat(path, ": cannot map: ", std::strerror(errno)));
  SafetensorsFile file;
  file.path_ = path;
  file.mapping_ = std::shared_ptr<const uint8_t>(
      static_cast<const uint8_t*>(map),
      [size](const uint8_t* p) { munmap(const_cast<uint8_t*>(p), size); });
  const uint8_t* bytes = file.mapping_.get();
  uint64_t length;
  std::memcpy(&length, bytes, sizeof(length));
  if (length > kMaxHeader || length > size - 8) {
    return Bad(path, absl::StrCat("header length ", length, " exceeds the file's ", size,
                                  " bytes (truncated?)"));
  }
  const Json header =
      Json::parse(bytes + 8, bytes + 8 + length, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) return Bad(path, "the header is not a JSON object");
  const uint8_t* data = bytes + 8 + length;
  const int64_t data_bytes = static_cast<int64_t>(size - 8 - length);
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") {
      for (const auto& [key, value] : json.items()) {
        if (value.is_string()) file.metadata_[key] = value.get<std::string>();
      }
      continue;
    }
    absl::StatusOr<Entry> entry = ParseEntry(name, json, data, data_bytes);
    if (!entry.ok())
      return Bad(path, absl::StrCat("tensor '", name, "' ", entry.status().message()));
    file.index_[name] = file.entries_.size();
    file.entries_.push_back(*std::move(entry));
  }
  return file;
}

const SafetensorsFile::Entry* SafetensorsFile::Find(const std::string& name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &entries_[it->second];
}

void SafetensorsFile::Release(const Entry& entry) const {
  // Whole pages only; a neighbour that shares the last one reads it from the file again.
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(entry.data) / page * page;
  const uintptr_t end =
      reinterpret_cast<uintptr_t>(entry.data) + static_cast<uintptr_t>(entry.bytes);
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace millrace
