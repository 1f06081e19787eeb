#include "clonedev/error.h"

namespace clonedev {
namespace {

class CloneCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "clonedev"; }
  std::string message(int value) const override { return sentence(static_cast<Errc>(value)); }

 private:
  static const char* sentence(Errc code) {
    switch (code) {
      case Errc::busy:
        return "Not done in time and without any effect; try again.";
      case Errc::origin_read:
        return "The origin failed a read.";
      case Errc::origin_lost:
        return "The origin is away.";
      case Errc::destination_read:
        return "The destination failed a read.";
      case Errc::destination_write:
        return "The destination failed a write.";
      case Errc::no_space:
        return "The destination is full.";
      case Errc::live_map_full:
        return "The tmpfs of the live map is full.";
      case Errc::miscompare:
        return "The data to compare differ.";
      case Errc::needs_check:
        return "An earlier commit or flush failed, so nothing is durable any more.";
      case Errc::metadata_io:
        return "The metadata device failed.";
      case Errc::damaged:
        return "The metadata is damaged.";
      case Errc::foreign:
        return "Metadata, origin or destination belong to another clone.";
      case Errc::in_use:
        return "Another clone or another process is using it.";
      case Errc::bad_config:
        return "The configuration is not acceptable.";
      case Errc::refused:
        return "Refused in order to protect data.";
      case Errc::unavailable:
        return "A file, device or server is missing or cannot be reached.";
      case Errc::closed:
        return "The device is being closed.";
    }
    return "Unknown error of the clone.";
  }
};

}  // namespace

std::error_code make_error_code(Errc e) {
  // Never destroyed: error codes may outlive the static destructors of a plugin.
  static const auto* const category = new CloneCategory;
  return {static_cast<int>(e), *category};
}

}  // namespace clonedev
