// An origin in memory: read-only content, as slow and as faulty as a test wants. What a test
// changes is the shared MemoryOrigin::World; every connection that the link makes is a fresh
// MemoryOrigin on it.
//
// Thread: one scheduler.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "io/event.h"
#include "origin/origin_factory.h"

namespace clonedev {

class MemoryOrigin final : public Origin {
 public:
  struct World {
    explicit World(Scheduler& s) : scheduler(s) {}
    Scheduler& scheduler;
    std::vector<std::byte> content;
    std::string identity = "memory:1";
    Scheduler::Duration delay{};
    // Asked for each read in the delay's place.
    std::function<Scheduler::Duration()> pace;
    bool reachable = true;    // False: connections are refused and reads fail.
    std::uint64_t epoch = 0;  // Raised: every connection is lost, new ones can be made.
    bool own_memory = false;  // What is read is not in the room it was given.
    bool hang = false;        // Reads wait until it is false (and released is woken).
    Event released;
    std::set<std::uint64_t> bad_blocks;   // Reads touching one fail with origin_read.
    std::set<std::uint64_t> bad_sectors;  // The same, 512 bytes large.
    std::vector<OriginExtent> extents;    // Empty: all data.
    std::uint64_t opens = 0;
    std::uint64_t reads = 0;
    std::uint64_t reads_under_way = 0;
    std::uint64_t open_connections = 0;
  };

  explicit MemoryOrigin(std::shared_ptr<World> world) : world_(std::move(world)) {}
  static OriginFactory factory(std::shared_ptr<World> world);

  Task<Result<>> open() override;
  std::uint64_t size() const override { return world_->content.size(); }
  Task<Result<std::string>> identity() override;
  Task<Result<OriginBytes>> read(std::uint64_t offset, std::span<std::byte> room) override;
  Task<Result<std::vector<OriginExtent>>> extents(Extent range) override;
  State state() const override { return state_; }
  std::string last_error() const override { return {}; }
  Task<> close() override;

 private:
  std::shared_ptr<World> world_;
  State state_ = State::connecting;
  std::uint64_t epoch_ = 0;
};

}  // namespace clonedev
