#include "lun_state.h"

#include <fmt/format.h>

#include "command_error.h"
#include "human.h"

namespace clonectl {

bool is_complete(const Json& lun, const std::string& name) {
  const std::string state = lun.at("state");
  if (state == "failed") {
    const Json reason = lun.value("reason", Json());
    throw CommandError(ExitCode::failed,
                       fmt::format("{}: the LUN has failed: {}", name,
                                   reason.is_string() ? printable(reason.get<std::string>())
                                                      : "see the log of tcmu-runner"));
  }
  return state == "complete";
}

}  // namespace clonectl
