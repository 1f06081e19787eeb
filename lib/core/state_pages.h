// Where the state of the blocks is kept in memory: per page of 16384 blocks (64 MiB of disk)
// either one word for all of them, or 4 KiB with two bits a block. What is uniform costs nothing.
//
// HeapStatePages keeps them in private memory; the live map (lib/metadata) in a file on tmpfs
// which survives the process. All stores that a reader may meet are single words.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/block_state.h"

namespace clonedev {

class StatePages {
 public:
  static constexpr std::size_t kPageBytes = 4096;
  static constexpr std::size_t kWordsPerPage = kPageBytes / sizeof(std::uint64_t);
  static constexpr std::size_t kBlocksPerWord = 32;
  static constexpr std::size_t kBlocksPerPage = kWordsPerPage * kBlocksPerWord;
  using Words = std::span<std::uint64_t, kWordsPerPage>;

  virtual ~StatePages() = default;

  virtual std::size_t pages() const = 0;
  virtual PageKind kind(std::size_t page) const = 0;
  // The words of a page whose kind is `mixed`.
  virtual Words words(std::size_t page) = 0;
  // Makes memory for the words of a page, filled with `fill`, without yet changing its kind.
  // False: there is no room (a full tmpfs); nothing changed.
  virtual bool allocate(std::size_t page, std::uint64_t fill) = 0;
  // Makes memory for the words of a page, whatever its kind, and keeps it until as many calls of
  // release(): allocate() cannot fail meanwhile. False: there is no room; nothing changed.
  virtual bool reserve(std::size_t page) = 0;
  virtual void release(std::size_t page) = 0;
  // Publishes the kind; a change away from `mixed` gives the memory of the words back.
  virtual void set_kind(std::size_t page, PageKind kind) = 0;
};

class HeapStatePages final : public StatePages {
 public:
  explicit HeapStatePages(std::size_t pages) : kinds_(pages, PageKind::origin), words_(pages) {}

  std::size_t pages() const override { return kinds_.size(); }
  PageKind kind(std::size_t page) const override { return kinds_[page]; }
  Words words(std::size_t page) override { return *words_[page]; }
  bool allocate(std::size_t page, std::uint64_t fill) override;
  bool reserve(std::size_t) override { return true; }
  void release(std::size_t) override {}
  void set_kind(std::size_t page, PageKind kind) override;

 private:
  using Page = std::array<std::uint64_t, kWordsPerPage>;
  std::vector<PageKind> kinds_;
  std::vector<std::unique_ptr<Page>> words_;
};

}  // namespace clonedev
