// What a target promises of every input. A broken promise ends the program, which is what a fuzzer
// calls a finding.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace clonedev::fuzz {

// `what` is a sentence that is true.
inline void promise(bool holds, std::string_view what, std::string_view detail = {}) {
  if (holds) return;
  std::string line("BROKEN: ");
  line.append(what).append(detail.empty() ? "" : ": ").append(detail).append("\n");
  std::fputs(line.c_str(), stderr);
  std::abort();
}

}  // namespace clonedev::fuzz
