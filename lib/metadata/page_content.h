// The states of one page as a value: what is durable, what a commit froze.
//
// Canonical: uniform content has no words, and places past the end of the disk are zero. Pure.
#pragma once

#include <cstddef>
#include <memory>

#include "core/geometry.h"
#include "core/state_pages.h"
#include "metadata/disk_format.h"

namespace clonedev {

struct PageContent {
  PageKind kind = PageKind::origin;
  std::unique_ptr<PageWords> words;  // Only when mixed.
};

struct FrozenPage {
  std::size_t page;
  PageContent content;
};

// Blocks of the disk that a page describes; fewer on the last one.
std::size_t blocks_in_page(const Geometry& geometry, std::size_t page);

PageContent copy_of(const PageContent& content);
// Places from `first` on to `end`, which had none, have `state` now.
void extend(PageContent& content, std::size_t first, std::size_t end, BlockState state);

// `blocks` is blocks_in_page() below.
PageContent copy_of(StatePages& pages, std::size_t page, std::size_t blocks);
bool same(StatePages& pages, std::size_t page, const PageContent& content, std::size_t blocks);
// Whether every one of the places [range.first, range.end()) of the page has that state.
bool all_in(const PageContent& content, BlockRange places, BlockState state);
// The same, but `copied` and `destination` are alike.
bool all_with_authority(const PageContent& content, BlockRange places, BlockState authority);
// What is wrong with words from a disk or a live map: nullptr, or half a sentence.
const char* fault_of(const PageWords& words, std::size_t blocks);

}  // namespace clonedev
