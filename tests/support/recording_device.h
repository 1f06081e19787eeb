// Notes the beginning and the end of every operation, in one log that several devices may share,
// and tells a listener, which may for example take an image of a VolatileDevice at that instant.
//
// Thread: one scheduler. Log and lower device outlive it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "io/block_device.h"

namespace clonedev {

struct OperationLog {
  enum class What { read, write, flush, zero };
  struct Entry {
    std::string device;
    What what;
    Extent extent;  // Empty for a flush.
    bool end;       // False: it begins.

    bool is(const std::string& name, What kind, bool at_end) const {
      return device == name && what == kind && end == at_end;
    }
  };

  std::vector<Entry> entries;
  std::function<void(const Entry&)> listener;  // Called after each entry; may be empty.
};

class RecordingDevice final : public BlockDevice {
 public:
  RecordingDevice(std::string name, BlockDevice& lower, OperationLog& log)
      : name_(std::move(name)), lower_(lower), log_(log) {}

  std::uint64_t size() const override { return lower_.size(); }
  std::uint32_t sector_size() const override { return lower_.sector_size(); }
  Task<Result<>> read(std::uint64_t offset, std::span<const iovec> data) override;
  Task<Result<>> write(std::uint64_t offset, std::span<const iovec> data) override;
  Task<Result<>> flush() override;
  Task<Result<>> zero(Extent extent, bool deallocate) override;

 private:
  void note(OperationLog::What what, Extent extent, bool end);

  std::string name_;
  BlockDevice& lower_;
  OperationLog& log_;
};

}  // namespace clonedev
