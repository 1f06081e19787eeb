#include "uio_name.h"

#include <fstream>

namespace clonedev {

Result<UioName> parse_uio_name(std::string_view text) {
  constexpr std::string_view kPrefix = "tcm-user/";
  const auto bad = [&] {
    return fail(Errc::bad_config, "uio name '" + std::string(text) +
                                      "': not of the form tcm-user/HBA/NAME/CONFIG: "
                                      "is this device one of target_core_user's?");
  };
  if (!text.starts_with(kPrefix)) return bad();
  const std::string_view rest = text.substr(kPrefix.size());
  const std::size_t hba_end = rest.find('/');
  if (hba_end == std::string_view::npos || hba_end == 0) return bad();
  const std::size_t name_end = rest.find('/', hba_end + 1);
  if (name_end == std::string_view::npos || name_end == hba_end + 1) return bad();
  return UioName{"user_" + std::string(rest.substr(0, hba_end)),
                 std::string(rest.substr(hba_end + 1, name_end - hba_end - 1))};
}

Result<UioName> read_uio_name(const std::string& sys_dir, const std::string& uio) {
  const std::string path = sys_dir + "/class/uio/" + uio + "/name";
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) {
    return fail(Errc::unavailable, path + ": cannot be read: is the device still there?");
  }
  return parse_uio_name(line);
}

}  // namespace clonedev
