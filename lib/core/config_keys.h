// The keys of this version, in one table: parser, help and suggestions all read it.
//
// Thread: any; the table is constant.
#pragma once

#include <string_view>

#include "clonedev/error.h"
#include "clonedev/options.h"

namespace clonedev::config {

enum class Role {
  fixed,   // Settled when the LUN is opened.
  live,    // May change while the LUN is in use.
  conf,    // Names the conf file; stands in the string only.
  secret,  // Fixed; stands in a conf file only, since everybody can read the string.
};

struct Key {
  std::string_view name;
  std::string_view value;    // The kind of value, for the help.
  std::string_view initial;  // The default, for the help.
  std::string_view meaning;
  Role role;
  std::string_view off_word;  // A bare word that means off, in dm-clone's language; or empty.
  Result<> (*apply)(Options& options, std::string_view key, std::string_view value);
  bool repeats = false;  // In a conf file it may stand several times.
};

// By name or by off_word; null when no key is called so.
const Key* find_key(std::string_view word);

// The nearest key when a typing error is the likely cause, else empty.
std::string_view nearest_key(std::string_view word);

}  // namespace clonedev::config
