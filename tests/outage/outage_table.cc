#include "outage_table.h"

namespace clonedev {
namespace {

Ending ending_of(const std::string& kind, Trouble trouble) {
  switch (trouble) {
    case Trouble::none:
    case Trouble::slow:
      return Ending::done;
    case Trouble::bad_sector:
    case Trouble::all_errors:
      return Ending::failed;
    case Trouble::garbage:  // A broken stream of NBD is lost; the next answer of HTTP may be right.
      return kind == "HTTP" ? Ending::failed : Ending::busy;
    default:
      return Ending::busy;
  }
}

std::vector<OutageCell> make_table() {
  using T = Trouble;
  const std::vector<T> anything = {T::slow,          T::stalled,    T::reset,      T::gone,
                                   T::other_content, T::bad_sector, T::all_errors, T::garbage,
                                   T::cut_short,     T::dns_gone};
  const std::vector<std::pair<std::string, std::vector<T>>> kinds = {
      {"NBD", anything},
      {"NBD with TLS", {T::stalled, T::gone, T::other_content, T::tls_expired}},
      {"HTTP", anything},
      {"HTTPS", {T::gone, T::other_content, T::tls_expired, T::dns_gone}},
      {"iSCSI", {T::stalled, T::gone, T::other_content, T::dns_gone}}};
  std::vector<OutageCell> table;
  for (const auto& [kind, troubles] : kinds) {
    for (const T trouble : troubles) table.push_back({kind, trouble, ending_of(kind, trouble)});
  }
  return table;
}

}  // namespace

std::vector<std::string> origin_kinds() {
  return {"NBD", "NBD with TLS", "HTTP", "HTTPS", "iSCSI"};
}

const std::vector<OutageCell>& outage_table() {
  static const std::vector<OutageCell> table = make_table();
  return table;
}

std::string title_of(Trouble trouble) {
  switch (trouble) {
    case Trouble::none:
      return "none";
    case Trouble::slow:
      return "every answer comes late";
    case Trouble::stalled:
      return "takes requests and never answers";
    case Trouble::reset:
      return "resets connections";
    case Trouble::gone:
      return "nobody listens";
    case Trouble::other_content:
      return "comes back with other content";
    case Trouble::bad_sector:
      return "one bad sector";
    case Trouble::all_errors:
      return "errors for everything";
    case Trouble::garbage:
      return "lengths that cannot be";
    case Trouble::cut_short:
      return "hangs up in mid-reply";
    case Trouble::tls_expired:
      return "its certificate has expired";
    case Trouble::dns_gone:
      return "its name leads nowhere";
  }
  return "unknown";
}

std::string title_of(Ending ending) {
  switch (ending) {
    case Ending::done:
      return "data";
    case Ending::busy:
      return "BUSY";
    case Ending::failed:
      return "read error";
  }
  return "unknown";
}

std::ostream& operator<<(std::ostream& out, const OutageCell& cell) {
  return out << cell.kind << ": " << title_of(cell.trouble);
}

}  // namespace clonedev
