#include "io/in_flight.h"

#include <cassert>
#include <utility>

#include "io/scheduler.h"

namespace clonedev {

InFlight::Entry::Entry(Entry&& other) noexcept
    : table_(std::exchange(other.table_, nullptr)), node_(other.node_) {}

InFlight::Entry& InFlight::Entry::operator=(Entry&& other) noexcept {
  if (this != &other) {
    release();
    table_ = std::exchange(other.table_, nullptr);
    node_ = other.node_;
  }
  return *this;
}

void InFlight::Entry::release() {
  if (table_) std::exchange(table_, nullptr)->remove(node_);
}

InFlight::~InFlight() { assert(nodes_.empty() && "in-flight table destroyed while in use"); }

InFlight::Acquire InFlight::acquire(Extent extent) {
  Node node{extent, 0, nullptr};
  for (const Node& earlier : nodes_) node.blockers += earlier.extent.overlaps(extent);
  nodes_.push_back(node);
  return Acquire(*this, std::prev(nodes_.end()));
}

void InFlight::remove(Nodes::iterator node) {
  for (auto later = std::next(node); later != nodes_.end(); ++later) {
    if (node->extent.overlaps(later->extent) && --later->blockers == 0 && later->waiter) {
      Scheduler::current().schedule(later->waiter);
    }
  }
  nodes_.erase(node);
}

}  // namespace clonedev
