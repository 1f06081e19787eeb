// check --deep on a clone in files: what is copied has to be the origin's; of what the metadata do
// not know for sure a difference is a note.
#include <nlohmann/json.hpp>

#include "metadata_tools_fixture.h"
#include "present.h"

namespace clonedev {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kOriginBlocks = 256;
constexpr std::uint64_t kDiskBlocks = 272;  // Larger than its origin.
constexpr BlockRange kCopied{10, 10};
constexpr BlockRange kWritten{20, 10};

std::string blocks_of(char letter, std::uint64_t count) {
  return std::string(count * kBlockSize, letter);
}

class DeepCheck : public MetadataToolsTest {
 protected:
  void SetUp() override {
    MetadataToolsTest::SetUp();
    spill(origin(), blocks_of('o', kOriginBlocks));
    // As copies and a user's writes leave it; where nothing was copied lies what lay there before.
    spill(dest(), blocks_of('?', 10) + blocks_of('o', 10) + blocks_of('u', 10) +
                      blocks_of('?', kDiskBlocks - 30));
    make(false);
  }

  // With the states of that destination, detached; `complete`: as after the last block.
  void make(bool complete) {
    auto reactor = must(Reactor::create());
    Superblock fresh = new_superblock(kDiskBlocks * kBlockSize);
    fresh.origin_size = kOriginBlocks * kBlockSize;
    fresh.origin_identity = clonectl::present_origin(origin(), *reactor).identity;
    fresh.destination_identity = clonectl::present_destination(dest()).identity;
    MemoryDevice device(metadata_bytes(fresh.size_bytes));
    ASSERT_TRUE(sim_.run(format(device, std::move(fresh))));
    auto store = must(sim_.run(MetadataStore::attach(device, **sim_.run(read_superblock(device)),
                                                     std::string(folder_), kHost)));
    if (complete) {
      ASSERT_TRUE(set(*store, 0, kDiskBlocks));
    } else {
      ASSERT_TRUE(set(*store, kCopied.first, kCopied.count, BlockState::copied, Cause::copied));
      ASSERT_TRUE(set(*store, kWritten.first, kWritten.count));
    }
    MemoryDevice destination(kMiB);
    ASSERT_TRUE(sim_.run(store->commit(destination)));
    ASSERT_TRUE(sim_.run(store->detach()));
    save(device);
    if (complete) change([](Superblock& s) { s.complete = true; });
  }
  template <class T>
  static T must(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message());
    return std::move(*result);
  }

  void change_block(std::uint64_t block) {
    std::string bytes = slurp(dest());
    bytes[block * kBlockSize + 77] ^= 1;
    spill(dest(), bytes);
  }
  Outcome deep(bool json = false) const {
    std::vector<std::string> words{"check",  meta(), "--origin", origin(),
                                   "--dest", dest(), "--deep"};
    if (json) words.push_back("--json");
    return run(words);
  }
  // Exit code 0 and these words.
  void expect_fine(const std::string& words) const {
    const Outcome outcome = deep();
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_NE(outcome.out.find(words), std::string::npos) << outcome.out;
    EXPECT_EQ(outcome.out.find("damage:"), std::string::npos) << outcome.out;
  }

  std::string origin() const { return file("origin.img"); }
  std::string dest() const { return file("dest.img"); }
};

TEST_F(DeepCheck, looks_at_what_was_copied_and_at_nothing_else) {
  expect_fine("compared with the origin: 40960 bytes are equal, 0 differ");
  change_block(9);
  change_block(20);
  change_block(30);
  expect_fine("40960 bytes are equal, 0 differ");
}

TEST_F(DeepCheck, finds_the_block_that_is_not_what_was_copied) {
  change_block(13);
  const Outcome outcome = deep();
  expect_error_line(outcome, 3, "");
  EXPECT_NE(outcome.out.find("damage: bytes 53248..57343 differ from the origin"),
            std::string::npos)
      << outcome.out;
  EXPECT_EQ(Json::parse(deep(true).out)["damaged"], true);
}

// A write takes the mark away at once in the live map, but on disk with the next commit.
TEST_F(DeepCheck, of_a_clone_that_was_not_detached_a_difference_is_only_a_note) {
  change([](Superblock& s) { s.clean = false; });
  change_block(13);
  expect_fine("note: bytes 53248..57343 differ from the origin");
  expect_fine("may be a user's");
}

TEST_F(DeepCheck, of_a_complete_clone_everything_is_compared_also_behind_the_origins_end) {
  make(true);
  spill(dest(), blocks_of('o', kOriginBlocks) + blocks_of('\0', kDiskBlocks - kOriginBlocks));
  expect_fine("compared with the origin: 1114112 bytes are equal, 0 differ");
  change_block(kOriginBlocks + 3);
  expect_fine("note: bytes 1060864..1064959 differ from the origin");
  expect_fine("the copy is complete");
}

TEST_F(DeepCheck, compares_with_no_other_origin) {
  spill(origin(), blocks_of('o', kOriginBlocks) + blocks_of('x', 1));
  const Outcome outcome = deep();
  expect_error_line(outcome, 3, "");
  EXPECT_EQ(outcome.out.find("compared with the origin"), std::string::npos) << outcome.out;
}

}  // namespace
}  // namespace clonedev
