// Text and back: nothing is lost on the way, nothing wrong is taken, and a crash in the middle of a
// restore leaves nothing that could be believed.
#include "metadata/dump.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <sstream>

#include "clone_fixture.h"
#include "metadata/metadata_check.h"

namespace clonedev {
namespace {

class DumpTest : public CloneTest {
 protected:
  // Of random runs, unclean, with everything set that can be.
  MemoryDevice make(std::uint64_t size, std::uint64_t seed) {
    MemoryDevice device(metadata_bytes(size));
    format_device(device, size);
    auto store = attach(device);
    std::mt19937_64 random(seed);
    const std::uint64_t blocks = store->map().geometry().blocks();
    for (int i = 0; i < 60; ++i) {
      const std::uint64_t most = i % 8 == 0 ? 3 * kPerPage : 70;
      const std::uint64_t first = random() % blocks;
      const std::uint64_t count = std::min(1 + random() % most, blocks - first);
      EXPECT_TRUE(set(*store, first, count, static_cast<BlockState>(random() % kBlockStates)));
    }
    EXPECT_TRUE(sim.run(store->commit(destination)));
    EXPECT_TRUE(sim.run(store->set_needs_check("50 % broken,\tsince noon")));
    return device;
  }
  std::string dump(BlockDevice& device) {
    std::string text;
    const TextSink sink = [&](std::string_view piece) -> Result<> {
      text += piece;
      return {};
    };
    auto superblock = read_one(device);
    EXPECT_TRUE(superblock) << superblock.error().message();
    const auto dumped = sim.run(dump_metadata(device, *superblock, sink));
    EXPECT_TRUE(dumped) << dumped.error().message();
    return text;
  }
  // As clonectl does: all of it is read before anything is written.
  static Result<Superblock> judge(const std::string& text) {
    std::istringstream in(text);
    DumpReader reader(in);
    auto superblock = reader.header();
    if (!superblock) return superblock;
    while (true) {
      const auto run = reader.run();
      if (!run) return fail(run.error());
      if (!*run) return superblock;
    }
  }
  Result<> restore(BlockDevice& device, const std::string& text) {
    auto superblock = judge(text);
    if (!superblock) return fail(superblock.error());
    std::istringstream in(text);
    DumpReader reader(in);
    if (const auto header = reader.header(); !header) return fail(header.error());
    return sim.run(restore_metadata(device, std::move(*superblock), [&] { return reader.run(); }));
  }
};

TEST_F(DumpTest, comes_back_bit_for_bit_at_every_depth) {
  for (const std::uint64_t size : {kMiB + 512, 5 * kGiB - 512, 100 * kGiB, 3000 * kGiB}) {
    MemoryDevice device = make(size, size);
    const std::string text = dump(device);
    MemoryDevice copy(metadata_bytes(size));
    const auto restored = restore(copy, text);
    ASSERT_TRUE(restored) << restored.error().message();
    EXPECT_EQ(dump(copy), text);
    EXPECT_EQ(picture_after_power_cut(copy), picture_after_power_cut(device));
    auto report = sim.run(check_metadata(copy));
    EXPECT_TRUE(report->map_sound);
    EXPECT_EQ(report->findings.size(), 1u) << "needs_check and nothing else";
  }
}

TEST_F(DumpTest, of_a_fresh_clone_is_what_the_document_shows) {
  MemoryDevice device(metadata_bytes(kGiB));
  format_device(device, kGiB);
  EXPECT_EQ(dump(device),
            "tcmu-clone-metadata 1\n"
            "uuid 07070707-0707-0707-0707-070707070707\n"
            "name vm1\n"
            "size_bytes 1073741824\n"
            "region_size 4096\n"
            "units 96\n"
            "sequence 2\n"
            "flags clean\n"
            "reason\n"
            "attach_id 00000000-0000-0000-0000-000000000000\n"
            "boot_id 00000000-0000-0000-0000-000000000000\n"
            "machine_id 00000000-0000-0000-0000-000000000000\n"
            "origin_size 1073741824\n"
            "origin_identity origin\n"
            "destination_identity destination\n"
            "origin 0 262144\n"
            "end e460b3fb15cd3470\n");
}

TEST_F(DumpTest, whatever_is_changed_in_the_text_is_noticed) {
  MemoryDevice device = make(5 * kGiB, 1);
  const std::string text = dump(device);
  std::mt19937_64 random(20261125);
  for (int i = 0; i < 1500; ++i) {
    std::string changed = text;
    switch (i % 3) {
      case 0:
        changed[random() % text.size()] ^= static_cast<char>(1u << random() % 8);
        break;
      case 1:
        changed.resize(random() % text.size());
        break;
      default:
        changed.erase(random() % (text.size() - 30), 1 + random() % 30);
    }
    EXPECT_FALSE(judge(changed)) << "seed 20261125, change " << i;
  }
}

TEST_F(DumpTest, a_text_changed_by_hand_ends_with_end_alone) {
  MemoryDevice device(metadata_bytes(kGiB));
  format_device(device, kGiB);
  std::string text = dump(device);
  text.replace(text.find("origin 0 262144"), 15, "origin 0 100\nzero 100 262044");
  EXPECT_FALSE(judge(text));
  text.resize(text.find("end "));
  text += "end\n";
  ASSERT_TRUE(judge(text)) << judge(text).error().message();
  ASSERT_TRUE(restore(device, text));
  EXPECT_EQ(picture_after_power_cut(device),
            (Picture{{0, BlockState::origin}, {100, BlockState::zero}}));
}

TEST_F(DumpTest, values_and_runs_that_cannot_be_are_refused_with_their_line) {
  MemoryDevice device(metadata_bytes(kGiB));
  format_device(device, kGiB);
  std::string text = dump(device);
  text.resize(text.find("end "));
  text += "end\n";
  const struct {
    const char* from;
    const char* to;
    const char* word;
  } cases[] = {
      {"metadata 1", "metadata 2", "newer"},
      {"size_bytes 1073741824", "size_bytes 1073741825", "impossible"},
      {"size_bytes 1073741824", "size_bytes 99999999999999999999", "line 4"},
      {"units 96", "units 9", "9 units"},
      {"region_size 4096", "region_size 4095", "region size"},
      {"sequence 2", "sequence 0", "sequence"},
      {"flags clean", "flags clean dirty", "line 8"},
      {"name vm1", "name", "no name"},
      {"name vm1", "name vm%0", "escape"},
      {"uuid 07", "uuid 7", "line 2"},
      {"origin 0 262144", "origin 0 262145", "262143 at most"},
      {"origin 0 262144", "origin 1 262143", "line 16"},
      {"origin 0 262144", "origin 0 0\norigin 0 262144", "line 16"},
      {"origin 0 262144", "lost 0 262144", "STATE"},
      {"origin 0 262144", "origin 0 5", "ends with block 5"},
      {"end\n", "end\nmore\n", "follows"},
      {"end\n", "", "too early"},
  };
  for (const auto& one : cases) {
    std::string changed = text;
    changed.replace(changed.find(one.from), std::strlen(one.from), one.to);
    const auto judged = judge(changed);
    ASSERT_FALSE(judged) << one.to;
    EXPECT_NE(judged.error().message().find(one.word), std::string::npos)
        << one.to << ": " << judged.error().message();
  }
}

// A dump of the first superblock there ever was has no second one to put over the newer one's slot.
TEST_F(DumpTest, the_oldest_dump_replaces_the_newest_metadata) {
  const std::uint64_t size = 20 * kGiB;
  MemoryDevice source = make(size, 3);
  std::string text = dump(source);
  const std::size_t number = text.find("sequence ");
  text.replace(number, text.find('\n', number) - number, "sequence 1");
  text.erase(text.find("\nend ") + 4) += '\n';
  MemoryDevice device = make(size, 4);
  ASSERT_TRUE(restore(device, text));
  const auto report = sim.run(check_metadata(device));
  ASSERT_TRUE(report && report->superblock);
  EXPECT_EQ(report->superblock->sequence, 1u);
  EXPECT_TRUE(report->map_sound);
}

TEST_F(DumpTest, a_crash_at_any_step_of_a_restore_leaves_nothing_that_could_be_believed) {
  const std::uint64_t size = 20 * kGiB;
  MemoryDevice source = make(size, 3);
  const std::string text = dump(source);
  MemoryDevice old = make(size, 4);
  const std::string old_text = dump(old);
  VolatileDevice disk(old);
  OperationLog log;
  RecordingDevice recorded("meta", disk, log);
  std::vector<MemoryDevice> images;
  std::uint64_t seed = 0;
  log.listener = [&](const OperationLog::Entry&) {
    for (int i = 0; i < 4; ++i) images.push_back(disk.image({++seed, i % 2 == 0}));
  };
  ASSERT_TRUE(restore(recorded, text));
  int refused = 0, before = 0, after = 0;
  for (MemoryDevice& image : images) {
    auto report = sim.run(check_metadata(image));
    ASSERT_TRUE(report);
    if (!report->map_sound) {
      EXPECT_FALSE(sim.run(read_slots(image))->blank) << "an invitation to make a new clone";
      ++refused;
      continue;
    }
    std::string found = dump(image);
    if (found == old_text) {
      ++before;
      continue;
    }
    // The slot before the last one says the same but for the sequence.
    const auto number = [](const std::string& dump) { return dump.find("sequence "); };
    const auto rest = [&](std::string dump) {
      dump.erase(number(dump), dump.find('\n', number(dump)) - number(dump));
      return dump.substr(0, dump.find("\nend "));
    };
    ++after;
    EXPECT_EQ(rest(found), rest(text));
  }
  EXPECT_GT(refused, 4);
  EXPECT_GT(before, 0);
  EXPECT_GT(after, 4);
}

}  // namespace
}  // namespace clonedev
