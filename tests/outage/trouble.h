// What can happen to the server of an origin.
#pragma once

#include <string>

namespace clonedev {

enum class Trouble {
  none,
  slow,           // Every answer comes late.
  stalled,        // Takes connections and requests, and never answers.
  reset,          // Resets every connection at its first request.
  gone,           // Nobody listens.
  other_content,  // Comes back with other content.
  bad_sector,     // One place cannot be read.
  all_errors,     // Every read is answered with an error.
  garbage,        // Answers with lengths that cannot be.
  cut_short,      // Hangs up in mid-reply.
  tls_expired,    // Comes back with a certificate that has expired.
  dns_gone,       // The name of its host leads nowhere.
};

// As a part of a test's name.
std::string word_of(Trouble trouble);

}  // namespace clonedev
