// Reads and writes safetensors files: an 8-byte little-endian header length, a JSON header
// {"name": {"dtype", "shape", "data_offsets"}, "__metadata__": {...}}, then the raw bytes of all tensors.
// Weights, optimizer states and golden cases are kept in this format because every peer reads it.
//
//   RETURN_IF_ERROR(WriteSafetensors("model.safetensors", {{"w", DType::kF32, {2, 2}, data}}, {}));
//   ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open("model.safetensors"));
//   const SafetensorsFile::Entry* w = file.Find("w");      // w->data points into the mapped file
//
// A file is written under a temporary name, synced and renamed, so a reader never sees half of one.
// Errors name the file and what was expected. Readers are safe from many threads after Open.
#ifndef MILLRACE_DATA_SAFETENSORS_SAFETENSORS_H_
#define MILLRACE_DATA_SAFETENSORS_SAFETENSORS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graph/base/dtype.h"

namespace millrace {

struct NamedTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  const void* data =
      nullptr;  // row-major, numel * SizeOf(dtype) bytes; may be null when numel is 0
  // Instead of `data`: writes the bytes to `out` when their turn comes, so that one tensor at a time is in memory.
  std::function<absl::Status(void* out)> read = nullptr;
};

// Tensors are stored in the given order, each aligned to 8 bytes by padding the header.
absl::Status WriteSafetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                              const std::map<std::string, std::string>& metadata);

class SafetensorsFile {
 public:
  struct Entry {
    std::string name;
    DType dtype = DType::kF32;
    std::vector<int64_t> shape;
    const uint8_t* data = nullptr;
    int64_t bytes = 0;
    int64_t numel() const { return bytes / SizeOf(dtype); }
  };

  // Maps the file and checks the whole header: offsets inside the file, without holes or overlaps that
  // change a tensor's size, sizes that match shape and dtype.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  const std::vector<Entry>& entries() const { return entries_; }
  const Entry* Find(const std::string& name) const;  // nullptr when absent
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& path() const { return path_; }
  // The tensor will not be looked at again soon: its pages leave the process' memory. data stays valid.
  void Release(const Entry& entry) const;

 private:
  std::string path_;
  std::shared_ptr<const uint8_t> mapping_;
  std::vector<Entry> entries_;
  std::map<std::string, size_t> index_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace millrace

#endif  // MILLRACE_DATA_SAFETENSORS_SAFETENSORS_H_
