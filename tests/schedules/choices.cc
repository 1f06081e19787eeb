#include "choices.h"

#include <fmt/format.h>

#include <sstream>

namespace clonedev {
namespace {
constexpr unsigned kRarely = 20;
}

Choices::Choices(std::uint64_t seed) : seeded_(true), seed_(seed), random_(seed) {}

Choices Choices::named(const std::string& name) {
  if (!name.empty() && name[0] == 's') return Choices(std::stoull(name.substr(1)));
  Deviations deviations;
  std::istringstream parts(name);
  for (std::string part; std::getline(parts, part, '-');) {
    if (part.empty()) continue;
    const std::size_t dot = part.find('.');
    deviations.push_back({std::stoull(part.substr(0, dot)), std::stoull(part.substr(dot + 1))});
  }
  return Choices(std::move(deviations));
}

std::string Choices::name() const {
  if (seeded_) return fmt::format("s{}", seed_);
  std::string text;
  for (const Deviation& one : deviations_) {
    text += fmt::format("{}{}.{}", text.empty() ? "" : "-", one.at, one.choice);
  }
  return text.empty() ? "-" : text;
}

std::size_t Choices::pick(std::size_t count) { return decide(count, 1); }

bool Choices::now() { return decide(2, kRarely) == 1; }

// `one_in`: a seed leaves the ordinary way only that often.
std::size_t Choices::decide(std::size_t count, unsigned one_in) {
  if (count < 2) return 0;
  const std::size_t at = made_.size();
  made_.push_back(count);
  if (seeded_) return random_() % one_in == 0 ? random_() % count : 0;
  if (next_ == deviations_.size() || deviations_[next_].at != at) return 0;
  return deviations_[next_++].choice;
}

}  // namespace clonedev
