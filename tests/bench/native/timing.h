// Clock and percentiles.
#pragma once

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>
#include <vector>

namespace clonedev::bench {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

template <class Body>
double microseconds_of(Body&& body) {
  const auto begin = Clock::now();
  std::forward<Body>(body)();
  return seconds_since(begin) * 1e6;
}

inline double percentile(std::vector<double> values, double part) {
  if (values.empty()) return 0;
  const auto at = std::min(values.size() - 1,
                           static_cast<std::size_t>(part * static_cast<double>(values.size())));
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(at));
  return values[at];
}

// Of microseconds.
inline nlohmann::json summary(const std::vector<double>& values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {{"count", values.size()},
          {"mean", values.empty() ? 0 : sum / static_cast<double>(values.size())},
          {"median", percentile(values, 0.5)},
          {"p99", percentile(values, 0.99)}};
}

}  // namespace clonedev::bench
