// Certificates for tests, made by certtool (gnutls-bin).
//
// Thread: any, one at a time for a folder.
#pragma once

#include <filesystem>
#include <string>

namespace clonedev {

// A CA in `folder`, and a server's key and certificate for what `name` says (certtool's words).
class Authority {
 public:
  Authority(std::filesystem::path folder, const std::string& name);
  static bool possible();  // certtool is installed.
  const std::filesystem::path& folder() const { return folder_; }

 private:
  const std::filesystem::path folder_;
};

// A certificate for what `name` says, signed with its own key.
void self_signed(const std::filesystem::path& certificate, const std::filesystem::path& key,
                 const std::string& name);

}  // namespace clonedev
