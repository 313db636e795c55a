// What a folder can do for storage files, found by trying before a run begins: all that is missing at once, and what
// is worth knowing though nothing is missing.
//
//   Findings findings;
//   StorageFacts facts = CheckStorageFolder({.folder = "/nvme", .bytes = bytes_of_all_files}, &findings);
//   if (!findings.ok()) return findings.ToStatus();
//   print(facts.notes);      // "/nvme refuses O_DIRECT: ..."
#ifndef MILLRACE_DATA_STORAGE_PREFLIGHT_H_
#define MILLRACE_DATA_STORAGE_PREFLIGHT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "data/storage/storage_file.h"
#include "graph/base/findings.h"

namespace millrace {

struct StorageNeed {
  std::string folder;
  int64_t bytes = 0;  // of all files that will lie there
  StorageFile::Engine engine = StorageFile::Engine::kAuto;
  bool direct = true;  // the run would use it
};

struct StorageFacts {
  int64_t free_bytes = 0;
  bool direct = false;             // direct I/O of single pages works
  bool io_uring = false;           // the kernel permits it
  std::vector<std::string> notes;  // slower than could be, and why
};

// Adds a finding for: no such folder, not writable, too little room, io_uring demanded but refused. Makes and removes
// a file of one page.
StorageFacts CheckStorageFolder(const StorageNeed& need, Findings* findings);

}  // namespace millrace

#endif  // MILLRACE_DATA_STORAGE_PREFLIGHT_H_
