// iscsi://[user%secret@]host[:port]/TARGET/LUN[?key=value[&key=value]...], the syntax of libiscsi
// and QEMU. Taken apart here and not by libiscsi, whose parser also listens to the environment,
// reads past what it has copied of a long URL, and cannot stand a key without a value.
//
// TARGET may hold %XX; user, secret and values are taken as they are, so none of them can hold what
// ends it. Keys: target_user and target_password (the target has to prove itself too: mutual CHAP),
// initiator (the name we log in with), header_digest (crc32c or none).
//
// Thread: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "clonedev/error.h"

namespace clonedev {

struct IscsiUrl {
  std::string user;
  std::string secret;
  std::string target_user;
  std::string target_secret;
  std::string initiator;  // Empty: the host's own, see iscsi_session.h.
  std::string host;       // A name or an address, an IPv6 one without its brackets.
  std::uint16_t port = 3260;
  std::string target;
  std::uint16_t lun = 0;  // 0 to 16383.
  bool header_digest = false;
};

// Errors: Errc::bad_config; the sentence never shows a part of the URL, which may be a secret.
Result<IscsiUrl> parse_iscsi_url(std::string_view url);

}  // namespace clonedev
