#include "metadata/page_content.h"

#include <algorithm>
#include <atomic>

namespace clonedev {
namespace {

constexpr std::size_t kPerWord = StatePages::kBlocksPerWord;

// Both bits of the places [first, end) that lie in word `word`.
std::uint64_t mask_of(std::size_t word, std::uint64_t first, std::uint64_t end) {
  const std::uint64_t base = word * kPerWord;
  const std::uint64_t from = std::clamp(first, base, base + kPerWord) - base;
  const std::uint64_t to = std::clamp(end, base, base + kPerWord) - base;
  if (from >= to) return 0;
  const std::uint64_t upto = to == kPerWord ? ~std::uint64_t{0} : (std::uint64_t{1} << 2 * to) - 1;
  return upto & ~std::uint64_t{0} << 2 * from;
}

std::uint64_t word_of(const PageContent& content, std::size_t word) {
  return content.words ? (*content.words)[word] : repeated(state_of(content.kind));
}

std::uint64_t word_of(StatePages& pages, std::size_t page, std::size_t word) {
  const PageKind kind = pages.kind(page);
  if (kind != PageKind::mixed) return repeated(state_of(kind));
  return std::atomic_ref(pages.words(page)[word]).load(std::memory_order_relaxed);
}

}  // namespace

std::size_t blocks_in_page(const Geometry& geometry, std::size_t page) {
  return std::min<std::uint64_t>(StatePages::kBlocksPerPage,
                                 geometry.blocks() - page * StatePages::kBlocksPerPage);
}

PageContent copy_of(const PageContent& content) {
  return {content.kind, content.words ? std::make_unique<PageWords>(*content.words) : nullptr};
}

void extend(PageContent& content, std::size_t first, std::size_t end, BlockState state) {
  if (first >= end || (!content.words && content.kind == uniform(state))) return;
  if (!content.words) {
    content.words = std::make_unique<PageWords>();
    for (std::size_t i = 0; i * kPerWord < first; ++i) {
      (*content.words)[i] = repeated(state_of(content.kind)) & mask_of(i, 0, first);
    }
    content.kind = PageKind::mixed;
  }
  for (std::size_t i = first / kPerWord; i * kPerWord < end; ++i) {
    (*content.words)[i] |= repeated(state) & mask_of(i, first, end);
  }
}

PageContent copy_of(StatePages& pages, std::size_t page, std::size_t blocks) {
  PageContent content{pages.kind(page), nullptr};
  if (content.kind != PageKind::mixed) return content;
  content.words = std::make_unique<PageWords>();
  for (std::size_t i = 0; i < content.words->size(); ++i) {
    (*content.words)[i] = word_of(pages, page, i) & mask_of(i, 0, blocks);
  }
  const auto first = static_cast<BlockState>((*content.words)[0] & 3);
  if (!all_in(content, {0, blocks}, first)) return content;
  return {uniform(first), nullptr};
}

bool same(StatePages& pages, std::size_t page, const PageContent& content, std::size_t blocks) {
  if (pages.kind(page) != PageKind::mixed && !content.words)
    return pages.kind(page) == content.kind;
  for (std::size_t i = 0; i * kPerWord < blocks; ++i) {
    if (((word_of(pages, page, i) ^ word_of(content, i)) & mask_of(i, 0, blocks)) != 0)
      return false;
  }
  return true;
}

bool all_in(const PageContent& content, BlockRange places, BlockState state) {
  if (!content.words) return content.kind == uniform(state);
  for (std::size_t i = places.first / kPerWord; i * kPerWord < places.end(); ++i) {
    const std::uint64_t other = (*content.words)[i] ^ repeated(state);
    if ((other & mask_of(i, places.first, places.end())) != 0) return false;
  }
  return true;
}

bool all_with_authority(const PageContent& content, BlockRange places, BlockState authority) {
  for (std::size_t i = places.first / kPerWord; i * kPerWord < places.end(); ++i) {
    const std::uint64_t other = authorities_of(word_of(content, i)) ^ repeated(authority);
    if ((other & mask_of(i, places.first, places.end())) != 0) return false;
  }
  return true;
}

const char* fault_of(const PageWords& words, std::size_t blocks) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if ((words[i] & ~mask_of(i, 0, blocks)) != 0)
      return "blocks past the end of the disk have a state";
  }
  return nullptr;
}

}  // namespace clonedev
