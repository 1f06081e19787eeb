// The in-flight table: who is changing which bytes of the destination right now.
//
// Every write is in it with exactly its bytes; every copy, fill, UNMAP, zeroing and COMPARE AND
// WRITE with whole blocks: such an entry is a *claim*. An entry is granted when no earlier one
// overlaps it, so nobody starves, and what touches the same bytes reaches the destination in order
// of arrival: the kernel gives a command up after cmd_time_out while its I/O may still be stuck in
// the destination, and that must not land on what the initiator wrote there afterwards (I14). Reads
// are not in it (I7). No entry is ever held across an origin read (I6): that is the rule of the
// callers in lib/engine.
//
// Units: bytes. Thread: one scheduler.
#pragma once

#include <coroutine>
#include <list>

#include "clonedev/extent.h"

namespace clonedev {

class InFlight {
 private:
  struct Node {
    Extent extent;
    std::size_t blockers;  // Earlier entries that overlap.
    std::coroutine_handle<> waiter;
  };
  using Nodes = std::list<Node>;

 public:
  // A place in the table, given up by the destructor.
  class [[nodiscard]] Entry {
   public:
    Entry() = default;
    Entry(InFlight& table, Nodes::iterator node) : table_(&table), node_(node) {}
    Entry(Entry&& other) noexcept;
    Entry& operator=(Entry&& other) noexcept;
    ~Entry() { release(); }
    void release();

   private:
    InFlight* table_ = nullptr;
    Nodes::iterator node_;
  };

  InFlight() = default;
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;
  ~InFlight();

  // auto entry = co_await table.acquire(extent);
  class Acquire;
  Acquire acquire(Extent extent);
  std::size_t size() const { return nodes_.size(); }

 private:
  void remove(Nodes::iterator node);

  Nodes nodes_;  // In order of arrival.
};

class InFlight::Acquire {
 public:
  Acquire(InFlight& table, Nodes::iterator node) : table_(table), node_(node) {}
  bool await_ready() const { return node_->blockers == 0; }
  void await_suspend(std::coroutine_handle<> handle) { node_->waiter = handle; }
  Entry await_resume() { return Entry(table_, node_); }

 private:
  InFlight& table_;
  Nodes::iterator node_;
};

}  // namespace clonedev
