// Page-aligned memory of any length, for data that several threads share. What was given back is
// used again: pages that the kernel has to find and clear anew for each transfer would cost as much
// as the transfer.
//
// Units: bytes. Thread: any. Ownership: the pages and what is spare are freed with the last of
// those who hold the store or pages of it.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

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
  void trim() { shrink(0); }
  // From now on nothing is spare any more.
  void close();
  std::size_t spare() const;

 private:
  struct Piece {
    std::byte* memory = nullptr;
    std::size_t length = 0;
  };

  explicit SparePages(std::size_t most);
  Piece find(std::size_t length);
  void give(Piece piece);
  void shrink(std::size_t most);
  Piece take_oldest(std::size_t most);

  mutable std::mutex mutex_;  // For the rest.
  std::size_t most_;
  std::vector<Piece> pieces_;  // The latest last; never beyond its capacity.
  std::size_t spare_ = 0;
};

}  // namespace clonedev
