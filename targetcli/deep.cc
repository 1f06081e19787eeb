#include "deep.h"

#include <algorithm>

#include "engine/verifier.h"
#include "metadata/tree_walk.h"
#include "origin/origin_factory.h"
#include "origin/origin_name.h"

namespace clonectl {
namespace {

using namespace clonedev;
using std::chrono::milliseconds;

constexpr std::size_t kOriginPool = std::size_t{16} << 20;
constexpr std::size_t kBouncePool = std::size_t{16} << 20;
constexpr milliseconds kPause{20};
constexpr std::chrono::seconds kOriginPatience{20};

// Takes the states of all blocks into memory.
class States final : public TreeVisitor {
 public:
  explicit States(const Superblock& superblock) : shape_(superblock), pages_(shape_.entries(0)) {}

  Result<> reference(std::uint32_t level, std::size_t index, const PageRef& ref) override {
    if (!ref.is_uniform()) return {};
    const TreeShape::Pages below = shape_.pages(level, index);
    for (std::size_t i = 0; i < below.count; ++i) pages_.set_kind(below.first + i, ref.kind());
    return {};
  }
  Result<> page(std::size_t page, const PageWords& words) override {
    static_cast<void>(pages_.allocate(page, 0));
    std::ranges::copy(words, pages_.words(page).begin());
    pages_.set_kind(page, PageKind::mixed);
    return {};
  }
  Result<> damage(const TreeDamage& damage) override { return fail(damage.error); }
  HeapStatePages& pages() { return pages_; }

 private:
  TreeShape shape_;
  HeapStatePages pages_;
};

Task<Result<>> compare(OriginLink& link, Verifier& verifier, Reactor& reactor) {
  const auto give_up = reactor.now() + kOriginPatience;
  auto opened = co_await link.open(give_up);
  if (opened) opened = verifier.start();
  while (opened && verifier.look().state == Verification::State::running) {
    co_await reactor.sleep_for(kPause);
  }
  std::string reason = "it has ended";
  co_await verifier.stop(std::move(reason));
  co_await link.close();
  co_return opened;
}

}  // namespace

Verification compare_with_origin(MetadataFile& meta, const Superblock& superblock,
                                 const std::string& origin, const std::string& dest) {
  States states(superblock);
  UnitPool units(kFirstPageUnit, superblock.units);
  value_or_give_up(meta.run([&] { return walk_tree(meta.device(), superblock, units, states); }));
  StateMap map(Geometry(superblock.size_bytes, superblock.region_size), states.pages());
  if (superblock.complete) {
    static_cast<void>(map.set({0, map.geometry().blocks()}, BlockState::copied));
  }
  Reactor& reactor = meta.reactor();
  BufferPool bounce(kBouncePool);
  FileDevice destination(reactor, bounce,
                         value_or_give_up(ExclusiveFile::open_to_read(dest, "destination")),
                         superblock.size_bytes);
  OriginLink link(origin_name(origin), value_or_give_up(origin_factory(origin, reactor, {})),
                  OriginLink::Binding{superblock.origin_size, superblock.origin_identity});
  BufferPool pool(kOriginPool);
  Fetcher fetcher(pool, &link);
  TokenBucket no_limit;
  Verifier verifier(
      {reactor, destination, map, fetcher, &link, no_limit, [] { return false; }, [](Extent) {}});
  value_or_give_up(meta.run([&] { return compare(link, verifier, reactor); }));
  return verifier.look();
}

}  // namespace clonectl
