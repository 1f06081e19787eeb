// Prints the table of docs/outage.md.

#include <cstdio>

#include "outage_table.h"

int main() {
  using namespace clonedev;
  std::string head = "| the server |";
  std::string line = "|---|";
  for (const std::string& kind : origin_kinds()) {
    head += " " + kind + " |";
    line += "---|";
  }
  std::printf("%s\n%s\n", head.c_str(), line.c_str());
  for (int i = static_cast<int>(Trouble::slow); i <= static_cast<int>(Trouble::dns_gone); ++i) {
    const auto trouble = static_cast<Trouble>(i);
    std::string row = "| " + title_of(trouble) + " |";
    for (const std::string& kind : origin_kinds()) {
      std::string cell = "-";
      for (const OutageCell& one : outage_table()) {
        if (one.kind == kind && one.trouble == trouble) cell = title_of(one.ending);
      }
      row += " " + cell + " |";
    }
    std::printf("%s\n", row.c_str());
  }
  return 0;
}
