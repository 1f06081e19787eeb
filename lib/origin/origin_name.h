// How an origin is called in sentences and logs: without what may be a secret.
//
// Thread: any.
#pragma once

#include <string>
#include <string_view>

namespace clonedev {

// The spec without user and password, and, of an HTTP or iSCSI URL, without its query: a signature
// that opens the door to everybody, or the target's own password.
std::string origin_name(std::string_view spec);

// A text of a library or a server made fit for a sentence: the spec replaced by its name, its
// userinfo and secret query removed wherever they stand, control characters blanked, at most 200
// bytes.
std::string origin_sentence(std::string_view spec, std::string_view text);

}  // namespace clonedev
