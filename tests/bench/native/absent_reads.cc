#include <libnbd.h>

#include "bench/native/block_memory.h"
#include "bench/native/measurements.h"
#include "bench/native/places.h"
#include "bench/native/timing.h"

namespace clonedev::bench {
namespace {

// The server without us: what a read costs at the least.
class BareOrigin {
 public:
  explicit BareOrigin(const std::string& uri) : handle_(nbd_create()) {
    if (handle_ == nullptr || nbd_connect_uri(handle_, uri.c_str()) != 0) give_up(nbd_get_error());
  }
  ~BareOrigin() { nbd_close(handle_); }
  BareOrigin(const BareOrigin&) = delete;
  BareOrigin& operator=(const BareOrigin&) = delete;

  void read(std::uint64_t offset, void* data, std::size_t length) {
    if (nbd_pread(handle_, data, length, offset, 0) != 0) give_up(nbd_get_error());
  }

 private:
  nbd_handle* handle_;
};

}  // namespace

nlohmann::json absent_reads(testing::PluginSite& site, const LunOptions& options,
                            std::uint64_t count) {
  BareOrigin origin(options.origin);
  LunOptions quiet = options;
  quiet.settings.emplace_back("hydration=off");
  BenchLun lun(site, "bench", quiet);
  const Places places(options.size_bytes);
  const BlockMemory data = make_blocks(kBlock);
  std::vector<double> bare;
  std::vector<double> absent;
  for (std::uint64_t turn = 0; turn < std::min(count, places.count()); ++turn) {
    bare.push_back(microseconds_of([&] { origin.read(places[turn], data.get(), kBlock); }));
    absent.push_back(microseconds_of([&] { lun.read(places[turn], data.get(), kBlock); }));
  }
  return {{"bare", summary(bare)}, {"absent", summary(absent)}};
}

}  // namespace clonedev::bench
