#include "trouble.h"

namespace clonedev {

std::string word_of(Trouble trouble) {
  switch (trouble) {
    case Trouble::none:
      return "none";
    case Trouble::slow:
      return "slow";
    case Trouble::stalled:
      return "stalled";
    case Trouble::reset:
      return "reset";
    case Trouble::gone:
      return "gone";
    case Trouble::other_content:
      return "other_content";
    case Trouble::bad_sector:
      return "bad_sector";
    case Trouble::all_errors:
      return "all_errors";
    case Trouble::garbage:
      return "garbage";
    case Trouble::cut_short:
      return "cut_short";
    case Trouble::tls_expired:
      return "tls_expired";
    case Trouble::dns_gone:
      return "dns_gone";
  }
  return "unknown";
}

}  // namespace clonedev
