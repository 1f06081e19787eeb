#include "metadata/metadata_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "metadata/page_content.h"

namespace clonedev {
namespace {

using Weight = Finding::Weight;

void count(const PageWords& words, std::size_t blocks,
           std::array<std::uint64_t, kBlockStates>& counts) {
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::uint64_t word = words[block / StatePages::kBlocksPerWord];
    ++counts[word >> 2 * (block % StatePages::kBlocksPerWord) & 3];
  }
}

class Checker final : public TreeVisitor {
 public:
  Checker(const Superblock& superblock, MetadataReport& report)
      : shape_(superblock), report_(report) {}

  Result<> reference(std::uint32_t level, std::size_t index, const PageRef& ref) override {
    const TreeShape::Pages pages = shape_.pages(level, index);
    if (ref.is_uniform()) {
      report_.blocks[static_cast<std::size_t>(ref.kind())] += shape_.blocks(pages).count;
    } else {
      units_.push_back({ref.where, pages});
    }
    return {};
  }
  Result<> page(std::size_t page, const PageWords& words) override {
    count(words, blocks_in_page(shape_.geometry(), page), report_.blocks);
    return {};
  }
  Result<> damage(const TreeDamage& damage) override {
    report_.findings.push_back({Weight::damage, damage.error.message()});
    report_.lost_pages.push_back(damage.pages);
    // Which of two references to one unit is right, nobody knows: both are lost.
    for (const auto& [unit, pages] : units_) {
      if (damage.used_twice && unit == damage.unit) report_.lost_pages.push_back(pages);
    }
    return {};
  }

  void finish() {
    auto& pages = report_.lost_pages;
    std::ranges::sort(pages, {}, &TreeShape::Pages::first);
    std::vector<TreeShape::Pages> merged;
    for (const TreeShape::Pages& one : pages) {
      if (merged.empty() || merged.back().first + merged.back().count < one.first) {
        merged.push_back(one);
      } else {
        const std::size_t end =
            std::max(merged.back().first + merged.back().count, one.first + one.count);
        merged.back().count = end - merged.back().first;
      }
    }
    pages = std::move(merged);
    for (const TreeShape::Pages& one : pages) {
      report_.lost.push_back(shape_.geometry().bytes(shape_.blocks(one)));
    }
  }

 private:
  TreeShape shape_;
  MetadataReport& report_;
  std::vector<std::pair<std::uint64_t, TreeShape::Pages>> units_;
};

void judge_flags(const Superblock& superblock, MetadataReport& report) {
  if (superblock.needs_check) {
    report.findings.push_back(
        {Weight::damage,
         fmt::format("needs_check is set: {}: nothing is made durable any more: see to the cause, "
                     "then clonectl repair META --clear-needs-check",
                     superblock.reason.empty() ? "no reason is given" : superblock.reason)});
  }
  const auto here = report.blocks[static_cast<std::size_t>(BlockState::destination)];
  if (superblock.complete && report.map_sound &&
      here != TreeShape(superblock).geometry().blocks()) {
    report.findings.push_back({Weight::damage,
                               "the clone is marked complete, but some blocks are not on the "
                               "destination: restore the metadata from a dump or a backup"});
  }
}

void judge_slots(const Slots& slots, const Superblock& superblock, MetadataReport& report) {
  const std::uint64_t other = 1 - superblock.sequence % kSuperblockSlots;
  if (slots.content[other] == SlotContent::sealed) return;
  report.findings.push_back(
      {Weight::note,
       fmt::format("superblock slot {} is {}, as after a power cut while it was written: the "
                   "other one counts; if there was no power cut, the device has lost a commit",
                   other, slots.content[other] == SlotContent::blank ? "blank" : "not valid")});
}

}  // namespace

bool MetadataReport::damaged() const {
  return std::any_of(findings.begin(), findings.end(),
                     [](const Finding& one) { return one.weight == Weight::damage; });
}

Task<Result<MetadataReport>> check_metadata(BlockDevice& device) {
  MetadataReport report;
  if (device.size() < kSuperblockSlots * kUnitBytes) {
    report.findings.push_back(
        {Weight::damage,
         "metadata: too short to be those of a clone: restore them from a dump or "
         "a backup"});
    co_return report;
  }
  const auto slots = co_await read_slots(device);
  if (!slots) co_return fail(slots.error());
  if (slots->blank || !slots->chosen) {
    report.findings.push_back(
        {Weight::damage, slots->blank ? "metadata: blank: there is no clone, or all of it is lost"
                                      : slots->chosen.error().message()});
    co_return report;
  }
  report.superblock = *slots->chosen;
  const Superblock& superblock = *report.superblock;
  UnitPool pool(kFirstPageUnit, superblock.units);
  Checker checker(superblock, report);
  auto walked = co_await walk_tree(device, superblock, pool, checker);
  checker.finish();
  report.map_sound = walked && report.lost.empty();
  if (!walked) report.findings.push_back({Weight::damage, walked.error().message()});
  report.used_units = kSuperblockSlots + pool.used();
  judge_flags(superblock, report);
  judge_slots(*slots, superblock, report);
  co_return report;
}

std::string attachment_text(const Superblock& superblock, const HostIds& ids) {
  if (superblock.clean) return "clean";
  if (superblock.machine_id != ids.machine) {
    return fmt::format("not clean: attached by another machine (machine id {})",
                       id_text(superblock.machine_id));
  }
  return superblock.boot_id == ids.boot
             ? "not clean: attached in this boot; the live map has the last word"
             : "not clean: attached before the last boot, as after a power loss";
}

}  // namespace clonedev
