// Every trouble of every kind of origin, and what comes of a read that only the origin can answer.
// outage_test.cc holds the table to its word, docs/outage.md shows it.
#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "trouble.h"

namespace clonedev {

enum class Ending {
  done,  // The data.
  busy,  // BUSY, or with on_origin_loss=error a hardware error; the data once the trouble is over.
  failed,  // A read error, of the places concerned only.
};

struct OutageCell {
  std::string kind;  // "NBD", "NBD with TLS", ...
  Trouble trouble;
  Ending ending;
};

std::vector<std::string> origin_kinds();
const std::vector<OutageCell>& outage_table();

std::string title_of(Trouble trouble);
std::string title_of(Ending ending);
std::ostream& operator<<(std::ostream& out, const OutageCell& cell);

}  // namespace clonedev
