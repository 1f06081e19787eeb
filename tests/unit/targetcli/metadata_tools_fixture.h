// Metadata in a file, for the real clonectl: half hydrated, of a clone of 20 GiB whose destination
// and origin are files too.
#pragma once

#include "clone_fixture.h"
#include "clonectl_fixture.h"

namespace clonedev {

class MetadataToolsTest : public ClonectlTest {
 protected:
  static constexpr std::uint64_t kSize = 20 * kGiB;
  // One mixed page each, below two different nodes.
  static constexpr std::size_t kPages[] = {0, 20, 300};

  void SetUp() override;

  // The metadata as they are now; change() writes them back with another superblock.
  Superblock superblock() const;
  void change(const std::function<void(Superblock&)>& how);
  std::uint64_t unit_of_page(std::size_t page) const;
  std::uint64_t units_in_use() const;
  void flip(std::uint64_t offset, unsigned mask = 4);
  // What somebody sees who opens it.
  Picture picture() const;

  std::string meta() const { return folder_ / "vm1.meta"; }
  std::string file(const std::string& name) const { return folder_ / name; }
  void save(const MemoryDevice& device) const;
  MemoryDevice load() const;

  mutable SimScheduler sim_;
};

void expect_error_line(const Outcome& outcome, int exit_code, const std::string& words);

}  // namespace clonedev
