#include "metadata/dump.h"

#include "metadata/page_content.h"
#include "metadata/tree_builder.h"
#include "metadata/tree_walk.h"

namespace clonedev {
namespace {

constexpr std::size_t kPiece = std::size_t{64} << 10;

class Dumper final : public TreeVisitor {
 public:
  Dumper(const Superblock& superblock, const TextSink& sink) : shape_(superblock), sink_(sink) {
    text_ = dump_header(superblock);
  }

  Result<> reference(std::uint32_t level, std::size_t index, const PageRef& ref) override {
    if (!ref.is_uniform()) return {};
    return add({shape_.blocks(shape_.pages(level, index)), state_of(ref.kind())});
  }
  Result<> page(std::size_t page, const PageWords& words) override {
    const BlockRange blocks = shape_.blocks({page, 1});
    for (std::uint64_t place = 0; place < blocks.count;) {
      const std::uint64_t first = place;
      const BlockState state = state_at(words, first);
      while (place < blocks.count && state_at(words, place) == state) ++place;
      const StateRun run{{blocks.first + first, place - first}, state};
      if (auto added = add(run); !added) return added;
    }
    return {};
  }
  Result<> damage(const TreeDamage& damage) override { return fail(damage.error); }

  Result<> finish() {
    if (auto written = write_run(); !written) return written;
    digest_.add(text_);
    text_ += dump_end(digest_);
    return sink_(text_);
  }

 private:
  static BlockState state_at(const PageWords& words, std::uint64_t place) {
    const std::uint64_t word = words[place / StatePages::kBlocksPerWord];
    return static_cast<BlockState>(word >> 2 * (place % StatePages::kBlocksPerWord) & 3);
  }

  // Runs that go on over the end of a page, or of a node, are one.
  Result<> add(StateRun run) {
    if (run_ && run_->state == run.state) {
      run_->blocks.count += run.blocks.count;
      return {};
    }
    auto written = write_run();
    run_ = run;
    return written;
  }

  Result<> write_run() {
    if (!run_) return {};
    text_ += dump_run(*run_);
    if (text_.size() < kPiece) return {};
    digest_.add(text_);
    auto taken = sink_(text_);
    text_.clear();
    return taken;
  }

  TreeShape shape_;
  const TextSink& sink_;
  std::string text_;  // Not yet in the digest, nor given to the sink.
  TextDigest digest_;
  std::optional<StateRun> run_;
};

}  // namespace

Task<Result<>> dump_metadata(BlockDevice& device, const Superblock& superblock,
                             const TextSink& sink) {
  Dumper dumper(superblock, sink);
  UnitPool pool(kFirstPageUnit, superblock.units);
  auto walked = co_await walk_tree(device, superblock, pool, dumper);
  if (!walked) co_return walked;
  co_return dumper.finish();
}

Task<Result<>> restore_metadata(BlockDevice& device, Superblock superblock, const RunSource& runs) {
  if (auto begun = co_await spoil_superblocks(device, superblock); !begun) co_return begun;
  TreeBuilder builder(device, superblock);
  while (true) {
    const auto run = runs();
    if (!run) co_return fail(run.error());
    if (!*run) break;
    if (!builder.add(**run)) continue;
    if (auto written = co_await builder.write(); !written) co_return written;
  }
  if (auto written = co_await builder.finish(); !written) co_return written;
  superblock.roots = builder.roots();
  // Both slots, as a clean detach leaves them; the one with the dump's own sequence last.
  const std::uint64_t sequence = superblock.sequence;
  superblock.sequence = sequence - 1;
  if (superblock.sequence > 0) {
    if (auto written = co_await write_superblock(device, superblock); !written) co_return written;
  }
  superblock.sequence = sequence;
  co_return co_await write_superblock(device, superblock);
}

}  // namespace clonedev
