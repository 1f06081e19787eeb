#include "core/io_plan.h"

namespace clonedev {
namespace {

bool covers_block(const Geometry& geometry, Extent extent, std::uint64_t block) {
  const Extent bytes = geometry.bytes({block, 1});
  return extent.offset <= bytes.offset && extent.end() >= bytes.end();
}

std::optional<Edge> edge(const StateMap& map, Extent extent, std::uint64_t block,
                         std::uint32_t sector_size) {
  if (covers_block(map.geometry(), extent, block)) return std::nullopt;
  const BlockState state = authority_of(map.at(block));
  const bool sectors_fit = extent.offset % sector_size == 0 && extent.length % sector_size == 0;
  if (state == BlockState::destination && sectors_fit) return std::nullopt;
  return Edge{block, state};
}

}  // namespace

std::vector<ReadStep> plan_read(const StateMap& map, Extent extent) {
  std::vector<ReadStep> steps;
  BlockRange left = map.geometry().touched(extent);
  while (!left.empty()) {
    const StateRun run = map.run(left);
    const Extent bytes = intersect(map.geometry().bytes(run.blocks), extent);
    const BlockState source = authority_of(run.state);
    if (!steps.empty() && steps.back().source == source) {
      steps.back().extent.length += bytes.length;
    } else {
      steps.push_back({bytes, source});
    }
    left = {run.blocks.end(), left.end() - run.blocks.end()};
  }
  return steps;
}

WritePlan plan_write(const StateMap& map, Extent extent, std::uint32_t sector_size) {
  WritePlan plan{map.geometry().aligned(extent), std::nullopt, std::nullopt};
  const BlockRange touched = map.geometry().touched(extent);
  if (touched.empty()) return plan;
  plan.head = edge(map, extent, touched.first, sector_size);
  if (touched.count > 1) plan.tail = edge(map, extent, touched.end() - 1, sector_size);
  return plan;
}

ZeroPlan plan_zero(const Geometry& geometry, Extent extent) {
  ZeroPlan plan{geometry.covered(extent), {}, {}};
  if (plan.blocks.empty()) {
    plan.head = extent;
    return plan;
  }
  const Extent whole = geometry.bytes(plan.blocks);
  plan.head = {extent.offset, whole.offset - extent.offset};
  if (extent.end() > whole.end()) plan.tail = {whole.end(), extent.end() - whole.end()};
  return plan;
}

}  // namespace clonedev
