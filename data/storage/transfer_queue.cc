#include "data/storage/transfer_queue.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "data/storage/crc32c.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

// Answers in a row that moved nothing (EINTR, EAGAIN, less than a page) before we give up, so that no fault hangs.
constexpr int kMaxFruitlessTries = 100;
constexpr int kTriesWithoutPause = 10;

int64_t RoundUp(int64_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

std::string What(absl::string_view what) {
  return what.empty() ? "" : absl::StrCat(" (", what, ")");
}

absl::Status Errno(int64_t error) {
  const int code = static_cast<int>(error);
  return absl::Status(absl::ErrnoToStatusCode(code), std::strerror(code));
}

}  // namespace

TransferQueue::TransferQueue(std::unique_ptr<IoEngine> engine, Config config)
    : engine_(std::move(engine)),
      config_(std::move(config)),
      flights_(config_.queue_depth),
      sums_(config_.checksum ? config_.file_bytes / kPageBytes : 0),
      written_(config_.file_bytes / kPageBytes),
      found_(config_.checksum ? config_.block_bytes / kPageBytes : 0) {
  for (int slot = config_.queue_depth - 1; slot >= 0; --slot) free_.push_back(slot);
}

int64_t TransferQueue::checksum_bytes() const {
  return static_cast<int64_t>((sums_.size() + found_.size()) * sizeof(uint32_t) +
                              written_.size() / 8);
}

absl::Status TransferQueue::Run(bool write, absl::Span<const StoragePiece> pieces) {
  for (const StoragePiece& piece : pieces) RETURN_IF_ERROR(Check(write, piece));
  absl::Status error;
  Cursor cursor;
  int in_flight = 0;
  std::optional<Flight> landed;  // not proven yet; its slot flies again already
  for (;;) {
    while (error.ok() && !free_.empty()) {
      while (cursor.piece < pieces.size() && cursor.done == pieces[cursor.piece].bytes) {
        cursor = {cursor.piece + 1, 0};
      }
      if (cursor.piece == pieces.size()) break;
      const int slot = free_.back();
      flights_[slot] = Cut(pieces[cursor.piece], slot, &cursor);
      error = Begin(write, slot);
      if (!error.ok()) break;
      free_.pop_back();
      ++in_flight;
    }
    if (landed.has_value()) {
      const absl::Status sound = Verify(*landed);
      if (error.ok()) error = sound;
      landed.reset();
    }
    if (in_flight == 0) return error;
    const IoCompletion completion = engine_->Wait();
    const int slot = completion.tag;
    absl::StatusOr<bool> ended = End(write, slot, completion.result);
    if (ended.ok() && !*ended && error.ok()) {
      const absl::Status submitted = Submit(write, slot);  // the rest of it
      if (submitted.ok()) continue;
      ended = submitted;
    }
    if (error.ok()) error = ended.status();
    if (ended.ok() && *ended && !write && !Staged(flights_[slot])) landed = flights_[slot];
    free_.push_back(slot);
    --in_flight;
  }
}

absl::Status TransferQueue::Check(bool write, const StoragePiece& piece) const {
  const char* what = write ? "write" : "read";
  if (piece.file_offset < 0 || piece.file_offset % kPageBytes != 0 || piece.bytes < 0 ||
      piece.file_offset > config_.file_bytes ||
      piece.bytes > config_.file_bytes - piece.file_offset) {
    return absl::InvalidArgumentError(absl::StrCat(
        config_.path, ": cannot ", what, " ", piece.bytes, " bytes at offset ", piece.file_offset,
        What(piece.what), ": expected an offset that is a multiple of ", kPageBytes,
        ", within the file's ", config_.file_bytes, " bytes"));
  }
  if (write) return absl::OkStatus();
  const int64_t end = (piece.file_offset + RoundUp(piece.bytes)) / kPageBytes;
  for (int64_t page = piece.file_offset / kPageBytes; page < end; ++page) {
    if (written_[page]) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(config_.path, ": cannot read ", piece.bytes, " bytes at offset ",
                     piece.file_offset, What(piece.what), ": the page at offset ",
                     page * kPageBytes, " was never written, or its last write failed"));
  }
  return absl::OkStatus();
}

TransferQueue::Flight TransferQueue::Cut(const StoragePiece& piece, int slot,
                                         Cursor* cursor) const {
  Flight flight;
  flight.offset = piece.file_offset + cursor->done;
  flight.what = piece.what;
  flight.user = static_cast<char*>(piece.memory) + cursor->done;
  flight.user_bytes = std::min(config_.block_bytes, piece.bytes - cursor->done);
  const bool aligned =
      !config_.aligned_memory || reinterpret_cast<uintptr_t>(flight.user) % kPageBytes == 0;
  // Whole pages go without a copy; a last part of a page is a request of its own.
  if (aligned && flight.user_bytes > kPageBytes) {
    flight.user_bytes = flight.user_bytes / kPageBytes * kPageBytes;
  }
  flight.bytes = RoundUp(flight.user_bytes);
  const bool staged = !aligned || flight.user_bytes != flight.bytes;
  flight.memory = staged ? config_.staging + slot * config_.block_bytes : flight.user;
  cursor->done += flight.user_bytes;
  return flight;
}

absl::Status TransferQueue::Begin(bool write, int slot) {
  const Flight& flight = flights_[slot];
  const int64_t first = flight.offset / kPageBytes, pages = flight.bytes / kPageBytes;
  if (config_.fault) {
    const absl::Status fault = config_.fault(write, flight.offset, flight.bytes);
    if (!fault.ok()) {
      if (write) std::fill_n(written_.begin() + first, pages, false);
      return Failed(write, flight, fault);
    }
  }
  if (write) {
    std::fill_n(written_.begin() + first, pages, false);  // until it has ended well
    if (Staged(flight)) {
      std::memcpy(flight.memory, flight.user, flight.user_bytes);
      std::memset(flight.memory + flight.user_bytes, 0, flight.bytes - flight.user_bytes);
    }
  }
  RETURN_IF_ERROR(Submit(write, slot));
  // While it is on its way: nobody changes the memory before the end of the call.
  if (write && config_.checksum) Crc32cPages(flight.memory, pages, &sums_[first]);
  return absl::OkStatus();
}

absl::Status TransferQueue::Submit(bool write, int slot) {
  const Flight& flight = flights_[slot];
  const int error = engine_->Submit({write, slot, flight.offset + flight.moved,
                                     flight.memory + flight.moved, flight.bytes - flight.moved});
  if (error == 0) return absl::OkStatus();
  return Failed(write, flight, Annotate(Errno(-error), engine_->name(), " took no request"));
}

absl::StatusOr<bool> TransferQueue::End(bool write, int slot, int64_t result) {
  Flight& flight = flights_[slot];
  const bool again = result == -EINTR || result == -EAGAIN;
  if (result < 0 && !again) {
    return Failed(write, flight, Errno(-result));
  }
  // Direct I/O goes on from a whole page only.
  const int64_t moved = again ? 0 : result / kPageBytes * kPageBytes;
  flight.moved += moved;
  if (flight.moved < flight.bytes) {
    if (!write && !again) RETURN_IF_ERROR(Shortened(flight));
    flight.fruitless_tries = moved > 0 ? 0 : flight.fruitless_tries + 1;
    if (flight.fruitless_tries > kMaxFruitlessTries) {
      return Failed(write, flight,
                    absl::UnavailableError(
                        absl::StrCat("tried ", kMaxFruitlessTries, " times, nothing was moved")));
    }
    if (flight.fruitless_tries > kTriesWithoutPause) usleep(1000);
    return false;
  }
  if (write) {
    std::fill_n(written_.begin() + flight.offset / kPageBytes, flight.bytes / kPageBytes, true);
    return true;
  }
  if (Staged(flight)) {  // before the next request takes its block; Run proves the others
    RETURN_IF_ERROR(Verify(flight));
    std::memcpy(flight.user, flight.memory, flight.user_bytes);
  }
  return true;
}

absl::Status TransferQueue::Shortened(const Flight& flight) const {
  struct stat info;
  if (fstat(config_.fd, &info) != 0 || info.st_size >= flight.offset + flight.bytes) {
    return absl::OkStatus();
  }
  return Failed(
      false, flight,
      absl::DataLossError(absl::StrCat("the file ends at byte ", info.st_size, ", expected ",
                                       config_.file_bytes, ": it was shortened from outside")));
}

absl::Status TransferQueue::Verify(const Flight& flight) {
  if (!config_.checksum) return absl::OkStatus();
  const int64_t first = flight.offset / kPageBytes, pages = flight.bytes / kPageBytes;
  Crc32cPages(flight.memory, pages, found_.data());
  for (int64_t page = 0; page < pages; ++page) {
    if (found_[page] == sums_[first + page]) continue;
    return Failed(false, flight,
                  absl::DataLossError(absl::StrFormat(
                      "the page at offset %d is corrupted: CRC32C %08x, written was %08x",
                      (first + page) * kPageBytes, found_[page], sums_[first + page])));
  }
  return absl::OkStatus();
}

absl::Status TransferQueue::Failed(bool write, const Flight& flight,
                                   const absl::Status& why) const {
  return Annotate(why, config_.path, ": ", write ? "write" : "read", " of ", flight.bytes,
                  " bytes at offset ", flight.offset, What(flight.what), " failed");
}

}  // namespace millrace
