// What the control socket understands: one line of words in, one line of JSON out
// (docs/control-protocol.md). Words are percent-decoded once, after splitting at blanks.
//
//   list                 an array of all LUNs' status objects
//   status NAME          one status object
//   message NAME WORD... dm-clone's messages
//   verify NAME [start|stop]
//                        compare with the origin: what was found so far; the words are root's
//   forget NAME          a LUN that failed to open is no longer listed
//
// Everything but list, status NAME and verify NAME is for root only.
//
// A reply is {"ok":true,"result":...} or {"ok":false,"error":"what: why: what to do","usage":bool};
// usage says that the request itself was wrong.
#pragma once

#include <string>
#include <string_view>

#include "lun_registry.h"

namespace clonedev {

// `line` comes without, the reply with its newline. May wait for a device. Thread: any.
std::string answer_control_line(LunRegistry& registry, std::string_view line, bool privileged);

// A refusal in the form of a reply, for what is not even a line.
std::string control_refusal(std::string_view error, bool usage);

}  // namespace clonedev
