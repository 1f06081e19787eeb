// The decisions of which a schedule is made: who runs next, which operation takes long, when
// something happens. Decision 0 is the ordinary one: first come first served, quickly, not now.
//
// A schedule is named by where it deviates from that ("12.1-40.2": the 12th decision is 1, the 40th
// is 2; "-" alone: nowhere), or by a seed ("s7"). Points with a single alternative are no
// decisions.
//
// Pure. Thread: one.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace clonedev {

class Choices {
 public:
  struct Deviation {
    std::size_t at;
    std::size_t choice;
  };
  using Deviations = std::vector<Deviation>;  // Ascending by place.

  explicit Choices(Deviations deviations) : deviations_(std::move(deviations)) {}
  explicit Choices(std::uint64_t seed);
  // From its name.
  static Choices named(const std::string& name);

  std::size_t pick(std::size_t count);
  // A decision between not now and now; rarely now when a seed decides.
  bool now();

  std::string name() const;
  // How many alternatives each decision had so far.
  const std::vector<std::size_t>& made() const { return made_; }

 private:
  std::size_t decide(std::size_t count, unsigned one_in);

  Deviations deviations_;
  bool seeded_ = false;
  std::uint64_t seed_ = 0;
  std::mt19937_64 random_;
  std::size_t next_ = 0;  // Of the deviations.
  std::vector<std::size_t> made_;
};

}  // namespace clonedev
