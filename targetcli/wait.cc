#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>

#include "command_error.h"
#include "commands.h"
#include "control_client.h"
#include "deadline.h"
#include "human.h"
#include "lun_state.h"

namespace clonectl {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstPause{100};
constexpr milliseconds kLongestPause{1000};
constexpr milliseconds kPatienceForReply{30'000};  // For one reply.

struct WaitArguments {
  std::string name;
  std::optional<double> timeout_s;
};

void wait_until_complete(const Context& context, const WaitArguments& arguments) {
  const ControlClient client(context.socket_path);
  const Deadline deadline(arguments.timeout_s);
  milliseconds pause = kFirstPause;
  for (bool first = true;; first = false) {
    // Never less than a pause, so that --timeout 0 still asks once.
    const Json lun = client.request({"status", arguments.name},
                                    std::max(deadline.cut(kPatienceForReply), kLongestPause));
    if (is_complete(lun, arguments.name)) {
      return;
    }
    if (first && !lun.at("hydration").at("enabled").get<bool>()) {
      fmt::print(stderr,
                 "clonectl: {}: hydration is off, so this may last: clonectl message {} "
                 "enable_hydration\n",
                 arguments.name, arguments.name);
    }
    if (deadline.passed()) {
      throw CommandError(
          ExitCode::timed_out,
          fmt::format(
              "{}: not complete in time: {} hydrated: wait longer or look at its status",
              arguments.name,
              human_percent(lun.at("regions").at("hydrated"), lun.at("regions").at("total"))));
    }
    std::this_thread::sleep_for(deadline.cut(pause));
    pause = std::min(2 * pause, kLongestPause);
  }
}

}  // namespace

void add_wait(CLI::App& app, const Context& context) {
  auto* command = app.add_subcommand("wait", "Wait until a LUN is complete");
  auto arguments = std::make_shared<WaitArguments>();
  command->add_option("NAME", arguments->name, "The LUN")->required();
  command->add_option("--timeout", arguments->timeout_s, "Give up after so many seconds")
      ->check(CLI::Range(0.0, 1e8))
      ->type_name("S");
  command->callback([&context, arguments] { wait_until_complete(context, *arguments); });
}

}  // namespace clonectl
