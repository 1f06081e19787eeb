// The read-only source of a clone. There is no way to write it.
//
// Units: bytes. Thread: the scheduler's. Ownership: the room of a read is the caller's, who keeps
// it until the task ends; it is never touched afterwards. Close before destruction.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "clonedev/error.h"
#include "clonedev/extent.h"
#include "io/task.h"

namespace clonedev {

// A part of the origin of which the server says whether it reads as zeroes.
struct OriginExtent {
  Extent extent;
  bool zero;
};

// What a read has brought: in the room it was given or, where others may have read the same, in
// memory that lives as long as somebody holds it, aligned to pages.
struct OriginBytes {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> memory = nullptr;  // Of the bytes, unless they are in the room.
};

class Origin {
 public:
  enum class State { connecting, connected, down, closed };

  virtual ~Origin() = default;

  // Connects or opens, once. The other calls need it to have succeeded.
  virtual Task<Result<>> open() = 0;
  virtual std::uint64_t size() const = 0;
  // What the content is bound to (I11), e.g. "blockdev:wwn=...;size=..." or
  // "nbd:size=...;samples=...": equal text, equal origin. Printable, at most 255 bytes.
  virtual Task<Result<std::string>> identity() = 0;
  // Brings [offset, offset + room.size()), which lies inside size().
  // Errc::origin_read: the server answered with an error, the connection is fine.
  // Errc::unavailable: the connection is gone; nothing else will be answered.
  virtual Task<Result<OriginBytes>> read(std::uint64_t offset, std::span<std::byte> room) = 0;
  // What is known of the range, in order, from its beginning, possibly not to its end; where
  // nothing is known one extent that is not zero.
  virtual Task<Result<std::vector<OriginExtent>>> extents(Extent range) = 0;
  virtual State state() const = 0;
  virtual std::string last_error() const = 0;
  // Ends open(), identity() and every read under way with an error, and gives the connection up.
  // May be called at any moment, and again; returns when nothing is under way any more.
  virtual Task<> close() = 0;
};

}  // namespace clonedev
