// Opening metadata: the superblock, the whole tree, and, after a kill, the live map; and what the
// offline tools make of them. See metadata_image.h for the input; what follows the image is a
// choice for repair and states to set in what was opened.
#include <fstream>
#include <map>

#include "clonedev/clone_device.h"
#include "metadata/metadata_store.h"
#include "metadata_image.h"
#include "offline_tools.h"
#include "property.h"
#include "scratch.h"
#include "support/sim_scheduler.h"

namespace clonedev::fuzz {
namespace {

using Store = std::unique_ptr<MetadataStore>;
// Who has each block, run by run. That a block was merely copied is forgotten after a crash.
using Picture = std::map<std::uint64_t, BlockState>;

constexpr std::size_t kMostChanges = 16;

Picture picture_of(const StateMap& map) {
  Picture picture;
  const std::uint64_t blocks = map.geometry().blocks();
  for (std::uint64_t at = 0; at < blocks;) {
    const StateRun run = map.run({at, blocks - at});
    const BlockState authority = authority_of(run.state);
    if (picture.empty() || picture.rbegin()->second != authority) picture[at] = authority;
    at = run.blocks.end();
  }
  return picture;
}

class Opening {
 public:
  explicit Opening(const MetadataImage& image) : device_(image.device), live_(image.live_map) {}

  void run(FuzzInput& input) {
    const Store store = attach(device_, folder_, this_boot());
    if (!store) return;
    expect_after_power_cut(*store);
    if (store->failed() || store->superblock().complete) {
      expect_no_commit(*store);
      return;
    }
    change(*store, input);
    const auto done = sim_.run(store->commit(destination_));
    promise(done.has_value(), "what was opened can be committed",
            done ? "" : done.error().message());
    expect_after_power_cut(*store);
    const auto detached = sim_.run(store->detach());
    promise(detached.has_value(), "what was committed can be detached");
  }

 private:
  Result<std::optional<Superblock>> read(BlockDevice& device) {
    return sim_.run(read_superblock(device));
  }

  // Nothing but these is to be said of an image, whatever it is.
  void note_refusal(const Error& error) {
    refusal_ = error.message();
    promise(
        error.code == Errc::foreign || error.code == Errc::damaged || error.code == Errc::refused,
        "an image is refused as foreign, damaged or not for us", refusal_);
    promise(!refusal_.empty(), "a refusal says why");
  }

  Store attach(BlockDevice& device, const ScratchFolder& folder, const HostIds& ids) {
    auto superblock = read(device);
    if (!superblock) note_refusal(superblock.error());
    if (!superblock || !*superblock) return nullptr;
    if (!live_.empty()) {
      std::ofstream(LiveMap::path_of(folder.path(), (*superblock)->uuid), std::ios::binary)
          << live_;
    }
    auto store =
        sim_.run(MetadataStore::attach(device, std::move(**superblock), folder.path(), ids));
    if (store) return std::move(*store);
    note_refusal(store.error());
    return nullptr;
  }

  // What somebody finds who has only what is durable.
  void expect_after_power_cut(const MetadataStore& store) {
    if (store.dirty()) return;
    MemoryDevice copy = device_;
    const ScratchFolder folder;
    const Store again = attach(copy, folder, later_boot());
    promise(again != nullptr, "what was opened once opens again", refusal_);
    promise(picture_of(again->map()) == picture_of(store.map()),
            "and says the same of every block");
  }

  void expect_no_commit(MetadataStore& store) {
    if (!store.failed()) return;
    const auto done = sim_.run(store.commit(destination_));
    promise(!done && done.error().code == Errc::needs_check, "needs_check is honoured");
  }

  void change(MetadataStore& store, FuzzInput& input) {
    const std::uint64_t blocks = store.map().geometry().blocks();
    for (std::size_t i = 0; i < kMostChanges && !input.empty(); ++i) {
      const std::uint64_t first = input.number(4) % blocks;
      const std::uint64_t count = 1 + input.number(2) % (blocks - first);
      const auto state = input.flag() ? BlockState::zero : BlockState::destination;
      promise(store.set({first, count}, state, Cause::written), "a state can be set");
    }
  }

  SimScheduler sim_;
  ScratchFolder folder_;
  MemoryDevice device_;
  MemoryDevice destination_{1 << 20};
  const std::string live_;
  std::string refusal_;
};

}  // namespace
}  // namespace clonedev::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  clonedev::set_log_sink([](int, const char*) {});  // Each torn slot would be reported.
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace clonedev::fuzz;
  FuzzInput input(data, size);
  const MetadataImage image = make_image(input);
  judge_offline_tools(image.device, input);
  Opening(image).run(input);
  return 0;
}
