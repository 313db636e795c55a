// Whole files in and out: a read says what to do when the file is not there, and a write is never
// seen half done. For what is too large to hold: data/atomic_file.h.
#ifndef MILLRACE_DATA_FILE_H_
#define MILLRACE_DATA_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace millrace {

// All bytes of a regular file. kNotFound when there is none, with `help` behind the message: how to
// get or generate it.
absl::StatusOr<std::vector<uint8_t>> ReadFile(const std::string& path, absl::string_view help);

// The same as text.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// Writes `path`.tmp.<process>, syncs it and renames it over `path`, then syncs the directory: after
// a crash the old or the new content is there, and a reader never meets a part of it.
absl::Status WriteFileAtomically(const std::string& path, absl::Span<const uint8_t> bytes);
absl::Status WriteFileAtomically(const std::string& path, absl::string_view text);

// Writes a file in place, not synced: one of very many, none of which counts before another file,
// written atomically behind them all, says so.
absl::Status WriteFile(const std::string& path, absl::Span<const uint8_t> bytes);

// Removes a file; none there is fine.
absl::Status RemoveFile(const std::string& path);

// Makes a directory and its missing parents.
absl::Status MakeDirectories(const std::string& path);

}  // namespace millrace

#endif  // MILLRACE_DATA_FILE_H_
