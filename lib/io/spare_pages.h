// Page-aligned memory of any length, for data that several threads share. What was given back is
// used again: pages that the kernel has to find and clear anew for each transfer would cost as much
// as the transfer.
//
// Units: bytes. Thread: any. Ownership: the pages and what is spare are freed with the last of
// those who hold the store or pages of it.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>

namespace clonedev {

class SparePages : public std::enable_shared_from_this<SparePages> {
 public:
  using Pages = std::shared_ptr<std::byte>;

  // `most`: what may be spare at a time.
  static std::shared_ptr<SparePages> create(std::size_t most);
  SparePages(const SparePages&) = delete;
  SparePages& operator=(const SparePages&) = delete;
  ~SparePages();

  // Nothing: there is no memory.
  Pages take(std::size_t length);
  // Frees what is spare.
  void trim();
  std::size_t spare() const;

 private:
  struct Piece {
    std::byte* memory;
    std::size_t length;
  };

  explicit SparePages(std::size_t most) : most_(most) {}
  Piece find(std::size_t length);
  void give(Piece piece);
  void shrink(std::size_t most);

  const std::size_t most_;
  mutable std::mutex mutex_;
  std::list<Piece> pieces_;  // The latest last. Protected by mutex_, as is:
  std::size_t spare_ = 0;
};

}  // namespace clonedev
