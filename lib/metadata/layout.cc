#include "metadata/layout.h"

#include <algorithm>

namespace clonedev {

std::uint32_t depth_for(std::uint64_t pages) {
  std::uint32_t depth = 0;
  for (std::uint64_t reach = kRootRefs; reach < pages; reach *= kNodeRefs) ++depth;
  return depth;
}

std::uint64_t nodes_for(std::uint64_t pages) {
  std::uint64_t nodes = 0;
  std::uint64_t level = pages;
  for (std::uint32_t depth = depth_for(pages); depth > 0; --depth) {
    level = Geometry::divide_up(level, kNodeRefs);
    nodes += level;
  }
  return nodes;
}

std::uint64_t least_units_for(std::uint64_t size_bytes) {
  const std::uint64_t pages = pages_for(size_bytes);
  return kFirstPageUnit + pages + nodes_for(pages) + 1 + kMaxDepth;
}

std::uint64_t units_for(std::uint64_t size_bytes) {
  const std::uint64_t pages = pages_for(size_bytes);
  const std::uint64_t nodes = nodes_for(pages);
  const std::uint64_t slack = std::max<std::uint64_t>(64, pages / 10 + 2 * nodes);
  return kFirstPageUnit + pages + nodes + slack;
}

}  // namespace clonedev
