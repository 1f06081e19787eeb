// The control socket and what it understands, over a clone that is really there.
//
// Input: connections. Each: one byte of choice (low bits: how many pieces the bytes are sent in;
// 0x80: the client closes instead of shutting down), two bytes of length, the bytes.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "clonedev/clone_device.h"
#include "control_commands.h"
#include "control_service.h"
#include "fuzz_input.h"
#include "lun.h"
#include "property.h"
#include "scratch.h"
#include "unique_fd.h"

namespace clonedev::fuzz {
namespace {

constexpr std::size_t kLineBytes = 512;
constexpr std::size_t kMostConnections = 16;
constexpr std::uint64_t kDiskBytes = 1 << 20;
// A list of three LUNs, whose names and texts may be escaped, and what a line can add to it.
constexpr std::size_t kLongestReply = 16 * 1024;

// A clone of a file, a LUN that failed, and a name that no configuration would let through.
class World {
 public:
  World() : service_(folder_.path() + "/socket", answer(), limits()) {
    set_log_sink([](int, const char*) {});
    const std::string origin = folder_.path() + "/origin";
    std::ofstream(origin) << std::string(kDiskBytes, 'o');
    OpenRequest request;
    request.name = "vm1";
    request.size_bytes = kDiskBytes;
    request.options.origin = origin;
    request.options.dest = folder_.path() + "/dest";
    request.options.meta = folder_.path() + "/meta";
    request.options.hydration = false;
    request.site = {folder_.path(), folder_.path() + "/run", false};
    const Options options = request.options;
    auto clone = CloneDevice::open(std::move(request));
    promise(clone.has_value(), "a clone opens", clone ? "" : clone.error().message());
    lun_ = std::make_shared<Lun>(nullptr, "vm1", options, std::move(*clone));
    registry_.add(lun_);
    registry_.add_failure("vm2", "dest: is not there: \"create\" it\n");
    registry_.add_failure("\xff\x01\"", "\xc3(");
    promise(service_.start().has_value(), "the service starts");
  }

  std::string path() const { return folder_.path() + "/socket"; }
  LunRegistry& registry() { return registry_; }
  Status status() { return lun_->status(); }
  // As no message of a client is likely to leave it, so that any change shows.
  void settle() {
    for (const char* message :
         {"disable_hydration", "hydration_threshold 3", "hydration_batch_size 5"}) {
      promise(lun_->message(message).has_value(), "a message is taken");
    }
  }

 private:
  ControlService::Answer answer() {
    return [this](std::string_view line, bool privileged) {
      return answer_control_line(registry_, line, privileged);
    };
  }
  static ControlService::Limits limits() {
    ControlService::Limits limits;
    limits.clients = 1;
    limits.line_bytes = kLineBytes;
    return limits;
  }

  ScratchFolder folder_;
  LunRegistry registry_;
  std::shared_ptr<Lun> lun_;
  ControlService service_;
};

World& world() {
  static World one;
  return one;
}

UniqueFd connected() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, world().path().c_str(), sizeof address.sun_path - 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  promise(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0,
          "the service takes connections");
  return fd;
}

// libFuzzer's own alarm interrupts it now and then.
bool has_something(int fd) {
  constexpr int kPatienceMs = 60'000;
  pollfd peer{fd, POLLIN, 0};
  int ready = 0;
  do {
    ready = ::poll(&peer, 1, kPatienceMs);
  } while (ready < 0 && errno == EINTR);
  return ready == 1;
}

std::string receive(int fd) {
  std::string reply;
  char buffer[4096];
  while (true) {
    promise(has_something(fd), "a connection ends");
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == ECONNRESET) return reply;  // It has not read all of a long line.
    promise(got >= 0, "a reply can be read");
    if (got == 0) return reply;
    reply.append(buffer, static_cast<std::size_t>(got));
    promise(reply.size() <= kLongestReply, "a reply is bounded");
  }
}

void check_reply(const std::string& reply) {
  promise(reply.ends_with('\n') && std::count(reply.begin(), reply.end(), '\n') == 1,
          "a reply is one line", reply);
  const auto json = nlohmann::json::parse(reply, nullptr, false);
  promise(json.is_object() && json.contains("ok") && json["ok"].is_boolean(),
          "a reply is a JSON object that says ok", reply);
  if (json["ok"]) {
    promise(json.contains("result"), "a success has a result", reply);
  } else {
    promise(json.contains("error") && json["error"].is_string() && json.contains("usage") &&
                json["usage"].is_boolean(),
            "a refusal has an error and usage", reply);
  }
}

// As somebody who is not root: nothing may change.
void ask_unprivileged(std::string_view line) {
  const Status before = world().status();
  const std::string reply = answer_control_line(world().registry(), line, false);
  check_reply(reply);
  const Status after = world().status();
  promise(before.hydration.enabled == after.hydration.enabled &&
              before.hydration.threshold == after.hydration.threshold &&
              before.hydration.batch == after.hydration.batch,
          "only root changes a LUN", line);
}

void talk(std::uint8_t choice, std::string_view text) {
  const UniqueFd fd = connected();
  const std::size_t pieces = 1 + choice % 4;
  std::string_view rest = text;
  for (std::size_t i = 0; i < pieces; ++i) {
    const std::string_view piece = rest.substr(0, i + 1 == pieces ? rest.size() : rest.size() / 2);
    rest.remove_prefix(piece.size());
    // The service may have heard enough.
    static_cast<void>(::send(fd.get(), piece.data(), piece.size(), MSG_NOSIGNAL));
  }
  if ((choice & 0x80) != 0) return;
  ::shutdown(fd.get(), SHUT_WR);
  const std::string reply = receive(fd.get());
  if (reply.empty()) {
    promise(text.empty(), "a request gets a reply", text);
  } else {
    check_reply(reply);
  }
}

}  // namespace
}  // namespace clonedev::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace clonedev::fuzz;
  // There is one service thread: with this answered, nothing of an earlier input is under way.
  talk(0, "list\n");
  world().settle();
  for (const bool as_root : {false, true}) {
    FuzzInput input(data, size);
    for (std::size_t i = 0; i < kMostConnections && !input.empty(); ++i) {
      const std::uint8_t choice = input.byte();
      const std::string_view text = input.text(input.number(2));
      if (as_root) {
        talk(choice, text);
      } else {
        ask_unprivileged(text.substr(0, std::min(text.find('\n'), kLineBytes)));
      }
    }
  }
  return 0;
}
