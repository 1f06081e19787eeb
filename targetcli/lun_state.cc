#include "lun_state.h"

#include <fmt/format.h>

#include "command_error.h"
#include "human.h"

namespace clonectl {

std::string text_of(const Json& value) {
  return value.is_string() ? printable(value.get<std::string>()) : "";
}

bool is_complete(const Json& lun, const std::string& name) {
  const std::string state = lun.at("state");
  if (state == "failed") {
    const std::string reason = text_of(lun.value("reason", Json()));
    throw CommandError(ExitCode::failed,
                       fmt::format("{}: the LUN has failed: {}", name,
                                   reason.empty() ? "see the log of tcmu-runner" : reason));
  }
  return state == "complete";
}

}  // namespace clonectl
