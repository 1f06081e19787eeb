// Places of the installed system that tests move.
#pragma once

#include <cstdlib>
#include <string>

namespace clonectl {

// The value of the variable; `usual` when it is unset or empty.
inline std::string from_environment(const char* variable, const char* usual) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0' ? value : usual;
}

}  // namespace clonectl
