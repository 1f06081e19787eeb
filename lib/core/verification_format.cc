#include <nlohmann/json.hpp>

#include "clonedev/verification.h"

namespace clonedev {

std::string verification_json(const Verification& v) {
  using Json = nlohmann::ordered_json;
  static constexpr const char* kStates[] = {"none",      "running", "equal",
                                            "different", "failed",  "stopped"};
  Json mismatches = Json::array();
  for (const Extent& one : v.mismatches) {
    mismatches.push_back({{"offset", one.offset}, {"length", one.length}});
  }
  const Json json = {
      {"state", kStates[static_cast<std::size_t>(v.state)]},
      {"size_bytes", v.size_bytes},
      {"done_bytes", v.done_bytes},
      {"verified_bytes", v.verified_bytes},
      {"skipped_bytes", v.skipped_bytes()},
      {"mismatch_bytes", v.mismatch_bytes},
      {"mismatch_ranges", v.mismatch_ranges},
      {"mismatches", std::move(mismatches)},
      {"unreadable_bytes", v.unreadable_bytes},
      {"last_error", v.last_error.empty() ? Json(nullptr) : Json(v.last_error)},
  };
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace clonedev
