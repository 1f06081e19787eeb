#include "offline_tools.h"

#include <map>
#include <sstream>

#include "metadata/dump.h"
#include "metadata/metadata_check.h"
#include "metadata/metadata_store.h"
#include "metadata/repair.h"
#include "metadata_image.h"
#include "property.h"
#include "scratch.h"
#include "support/sim_scheduler.h"

namespace clonedev::fuzz {
namespace {

constexpr std::uint64_t kMostPages = 4096;  // Of the disks whose pages are compared one by one.

// What the tree says of each page that is not lost.
class Known final : public TreeVisitor {
 public:
  explicit Known(const Superblock& superblock) : shape_(superblock) {}

  Result<> reference(std::uint32_t level, std::size_t index, const PageRef& ref) override {
    if (!ref.is_uniform()) return {};
    const TreeShape::Pages below = shape_.pages(level, index);
    for (std::size_t page = below.first; page < below.first + below.count; ++page) {
      PageWords words;
      words.fill(static_cast<std::uint64_t>(ref.kind()) * 0x5555555555555555U);
      pages_[page] = words;
    }
    return {};
  }
  Result<> page(std::size_t page, const PageWords& words) override {
    pages_[page] = words;
    return {};
  }
  Result<> damage(const TreeDamage&) override { return {}; }

  void forget(const std::vector<TreeShape::Pages>& lost) {
    for (const TreeShape::Pages& pages : lost) {
      pages_.erase(pages_.lower_bound(pages.first), pages_.lower_bound(pages.first + pages.count));
    }
  }
  const std::map<std::size_t, PageWords>& pages() const { return pages_; }

 private:
  TreeShape shape_;
  std::map<std::size_t, PageWords> pages_;
};

class OfflineTools {
 public:
  explicit OfflineTools(const MemoryDevice& image) : image_(image) {}

  void run(FuzzInput& input) {
    const MetadataReport report = check(image_);
    if (!report.superblock) {
      promise(report.damaged(), "what has no superblock is called damaged");
      return;
    }
    agree_with_opening(report);
    if (report.map_sound) {
      round_trip(*report.superblock);
    } else {
      expect_no_dump(*report.superblock);
      repair(report, input.flag() ? BlockState::origin : BlockState::destination);
    }
  }

 private:
  MetadataReport check(MemoryDevice& device) {
    auto report = sim_.run(check_metadata(device));
    promise(report.has_value(), "a readable image can be checked");
    return std::move(*report);
  }

  // The daemon and the tool must not see two different things.
  void agree_with_opening(const MetadataReport& report) {
    MemoryDevice copy = image_;
    const ScratchFolder folder;
    Superblock superblock = *report.superblock;
    const auto store =
        sim_.run(MetadataStore::attach(copy, std::move(superblock), folder.path(), later_boot()));
    if (store && !report.superblock->complete) {
      promise(report.map_sound, "what opens has a sound map");
    } else if (!store && store.error().code == Errc::damaged) {
      promise(report.damaged(), "what does not open is called damaged", store.error().message());
    }
  }

  Result<std::string> dump(MemoryDevice& device, const Superblock& superblock) {
    std::string text;
    const TextSink sink = [&](std::string_view piece) -> Result<> {
      text += piece;
      return {};
    };
    auto done = sim_.run(dump_metadata(device, superblock, sink));
    if (!done) return fail(done.error());
    return text;
  }

  void round_trip(const Superblock& superblock) {
    const auto text = dump(image_, superblock);
    promise(text.has_value(), "a sound map can be dumped");
    std::istringstream in(*text);
    DumpReader reader(in);
    auto header = reader.header();
    promise(header.has_value(), "a dump can be read", header ? "" : header.error().message());
    MemoryDevice restored(header->units * kUnitBytes);
    const auto done =
        sim_.run(restore_metadata(restored, std::move(*header), [&] { return reader.run(); }));
    promise(done.has_value(), "and restored", done ? "" : done.error().message());
    const MetadataReport again = check(restored);
    promise(again.superblock && again.map_sound, "to a sound map");
    promise(dump(restored, *again.superblock) == *text, "that dumps to the same text");
  }

  void expect_no_dump(const Superblock& superblock) {
    promise(!dump(image_, superblock), "half a map is not dumped as a whole one");
  }

  Known known(MemoryDevice& device, const Superblock& superblock) {
    Known known(superblock);
    UnitPool pool(kFirstPageUnit, superblock.units);
    sim_.run(walk_tree(device, superblock, pool, known));
    return known;
  }

  void repair(const MetadataReport& report, BlockState state) {
    if (report.lost.empty()) return;
    const Superblock& before = *report.superblock;
    MemoryDevice device = image_;
    const std::vector<FrozenPage> content = content_in_state(report.lost_pages, state);
    const auto repaired = sim_.run(repair_metadata(device, before, content));
    if (!repaired) {
      promise(repaired.error().code == Errc::no_space, "what is lost can be mended",
              repaired.error().message());
      return;
    }
    const MetadataReport after = check(device);
    promise(after.superblock && after.map_sound, "a mended map is sound");
    if (TreeShape(before).entries(0) > kMostPages) return;
    Known then = known(image_, before);
    Known now = known(device, *after.superblock);
    then.forget(report.lost_pages);
    now.forget(report.lost_pages);
    promise(then.pages() == now.pages(), "and says the same of all that was not lost");
  }

  SimScheduler sim_;
  MemoryDevice image_;
};

}  // namespace

void judge_offline_tools(const MemoryDevice& image, FuzzInput& input) {
  OfflineTools(image).run(input);
}

}  // namespace clonedev::fuzz
