// The two ways a status leaves the process: JSON for programs, dm-clone's own line for people who
// know dm-clone.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "clonedev/status.h"

namespace clonedev {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t kSector = 512;
constexpr unsigned kMetadataUnitSectors = 8;

const char* state_word(CloneState state) {
  switch (state) {
    case CloneState::hydrating:
      return "hydrating";
    case CloneState::paused:
      return "paused";
    case CloneState::complete:
      return "complete";
    case CloneState::failed:
      return "failed";
  }
  return "failed";
}

const char* mode_word(CloneMode mode) {
  switch (mode) {
    case CloneMode::rw:
      return "rw";
    case CloneMode::ro:
      return "ro";
    case CloneMode::fail:
      return "Fail";
  }
  return "Fail";
}

Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json hydration_json(const Status& s) {
  return {{"enabled", s.hydration.enabled},
          {"rate_bytes_per_s", s.hydration.rate_bytes_per_s},
          {"eta_s", s.hydration.eta_known ? Json(s.hydration.eta_s) : Json(nullptr)},
          {"threshold", s.hydration.threshold},
          {"batch", s.hydration.batch},
          {"rate_limit", s.hydration.rate_limit ? Json(s.hydration.rate_limit) : Json(nullptr)},
          {"min_rate", s.hydration.min_rate},
          {"copy_on_read", s.hydration.copy_on_read},
          {"held_up_by", text_or_null(s.hydration.held_up_by)}};
}

}  // namespace

std::string dm_status_line(const Status& s) {
  if (s.mode == CloneMode::fail) {
    return mode_word(s.mode);
  }
  std::string features;
  unsigned count = 0;
  if (!s.hydration.enabled) {
    features += " no_hydration";
    ++count;
  }
  if (!s.discard_passdown) {
    features += " no_discard_passdown";
    ++count;
  }
  return fmt::format(
      "{} {}/{} {} {}/{} {} {}{} 4 hydration_threshold {} hydration_batch_size {} {}",
      kMetadataUnitSectors, s.metadata.used_units, s.metadata.total_units, s.region_bytes / kSector,
      s.regions.hydrated, s.regions.total, s.regions.hydrating, count, features,
      s.hydration.threshold, s.hydration.batch, mode_word(s.mode));
}

std::string status_json(const Status& s) {
  const Json json = {
      {"schema", 1},
      {"name", s.name},
      {"state", state_word(s.state)},
      {"mode", mode_word(s.mode)},
      {"reason", text_or_null(s.reason)},
      {"size_bytes", s.size_bytes},
      {"region_bytes", s.region_bytes},
      {"blocks",
       {{"origin", s.blocks.origin},
        {"zero", s.blocks.zero},
        {"destination", s.blocks.destination},
        {"copied", s.blocks.copied},
        {"total", s.blocks.total()}}},
      {"regions",
       {{"hydrated", s.regions.hydrated},
        {"hydrating", s.regions.hydrating},
        {"total", s.regions.total}}},
      {"hydration", hydration_json(s)},
      {"origin",
       {{"state", s.origin.state},
        {"using", text_or_null(s.origin.using_spec)},
        {"last_error", text_or_null(s.origin.last_error)},
        {"bytes_read", s.origin.bytes_read}}},
      {"errors",
       {{"origin_read", s.errors.origin_read},
        {"destination", s.errors.destination},
        {"metadata", s.errors.metadata},
        {"busy", s.errors.busy},
        {"origin_lost", s.errors.origin_lost},
        {"mismatch", s.errors.mismatch}}},
      {"metadata",
       {{"used_units", s.metadata.used_units},
        {"total_units", s.metadata.total_units},
        {"commits", s.metadata.commits}}},
      {"discard_passdown", s.discard_passdown},
      {"write_cache", s.write_cache},
      {"destination_direct", s.destination_direct},
      {"io", text_or_null(s.io)},
      {"dm", dm_status_line(s)},
  };
  // Names and error texts come from outside: bytes that are not UTF-8 must not end in a throw.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace clonedev
