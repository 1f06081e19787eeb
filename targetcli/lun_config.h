// The config string of a LUN in configfs: found, read, changed, written back.
//
// Thread: one. Errors: CommandError.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace clonectl {

// /sys/kernel/config, or TCMU_CLONE_CONFIGFS.
std::filesystem::path configfs_root();

// The folder target/core/user_N/NAME of a LUN of this handler. Throws when there is none or more
// than one.
std::filesystem::path find_lun(const std::filesystem::path& root, const std::string& name);

// As the kernel has it, "clone/..." without a newline.
std::string read_config(const std::filesystem::path& lun);

// The kernel hands the string to the daemon and waits for its verdict; a refusal is thrown and the
// old string stands.
void write_config(const std::filesystem::path& lun, const std::string& config);

// `config` with `key` set to `value`, in its old place if it has one. Pure.
std::string with_setting(std::string_view config, std::string_view key, std::string_view value);

}  // namespace clonectl
