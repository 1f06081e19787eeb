#include <fmt/format.h>

#include <memory>
#include <thread>

#include "command_error.h"
#include "commands.h"
#include "control_client.h"
#include "deadline.h"
#include "human.h"

namespace clonectl {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstLook{50};
constexpr milliseconds kLongestLook{1000};

struct VerifyArguments {
  std::string name;
  bool json = false;
  std::optional<double> timeout_s;
};

std::string view_of_comparison(const Json& found) {
  const auto bytes = [&](const char* member) {
    const std::uint64_t count = found.at(member);
    return fmt::format("{} ({} bytes)", human_bytes(count), count);
  };
  std::string text =
      aligned({{"equal", bytes("verified_bytes")},
               {"different", fmt::format("{}, ranges: {}", bytes("mismatch_bytes"),
                                         found.at("mismatch_ranges").get<std::uint64_t>())},
               {"unreadable", bytes("unreadable_bytes")},
               {"skipped", bytes("skipped_bytes") + ": written, zeroed or not copied"}});
  for (const Json& one : found.at("mismatches")) {
    const std::uint64_t offset = one.at("offset");
    const std::uint64_t length = one.at("length");
    text += fmt::format("bytes {}..{} differ from the origin\n", offset, offset + length - 1);
  }
  return text;
}

// The result is on the standard output already.
void end(const std::string& name, const Json& found) {
  const std::string state = found.at("state");
  if (state == "equal") {
    return;
  }
  const Json& error = found.at("last_error");
  const std::string why = error.is_string() ? ": " + printable(error.get<std::string>()) : "";
  if (state == "different") {
    throw CommandError(ExitCode::damaged,
                       fmt::format("{}: the destination differs from the origin where nobody has "
                                   "written: one of the two was changed by something else{}",
                                   name, why));
  }
  throw CommandError(ExitCode::failed, fmt::format("{}: not all could be verified{}", name, why));
}

void verify(const Context& context, const VerifyArguments& arguments) {
  const ControlClient client(context.socket_path);
  const Deadline deadline(arguments.timeout_s);
  const auto running = [](const Json& found) { return found.at("state") == "running"; };
  Json found = client.request({"verify", arguments.name, "start"});
  for (milliseconds pause = kFirstLook; running(found) && !deadline.passed();
       pause = std::min(2 * pause, kLongestLook)) {
    std::this_thread::sleep_for(deadline.cut(pause));
    found = client.request({"verify", arguments.name});
  }
  const bool late = running(found);
  if (late) {
    found = client.request({"verify", arguments.name, "stop"});
  }
  fmt::print("{}", arguments.json ? found.dump() + "\n" : view_of_comparison(found));
  if (late) {
    throw CommandError(
        ExitCode::timed_out,
        fmt::format("{}: not verified in time: {} looked at: wait longer", arguments.name,
                    human_percent(found.at("done_bytes"), found.at("size_bytes"))));
  }
  end(arguments.name, found);
}

}  // namespace

void add_verify(CLI::App& app, const Context& context) {
  auto* command = app.add_subcommand("verify", "Compare what was copied with the origin");
  auto arguments = std::make_shared<VerifyArguments>();
  command->add_option("NAME", arguments->name, "The LUN")->required();
  command->add_flag("--json", arguments->json, "What was found as one JSON object");
  command->add_option("--timeout", arguments->timeout_s, "Give up after so many seconds")
      ->check(CLI::Range(0.0, 1e8))
      ->type_name("S");
  command->callback([&context, arguments] { verify(context, *arguments); });
}

}  // namespace clonectl
