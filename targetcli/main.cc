// clonectl: makes clone LUNs, looks at them and steers them, and mends their metadata.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <system_error>

#include "command_error.h"
#include "commands.h"
#include "control_client.h"

namespace clonectl {
namespace {

int report(ExitCode code, const std::string& text) {
  fmt::print(stderr, "clonectl: {}\n", text);
  return static_cast<int>(code);
}

// A standard descriptor that the caller has closed must not become that of a metadata file. Writing
// to it still fails.
void occupy_standard_descriptors() {
  int fd = 0;
  while (fd <= STDERR_FILENO && fd >= 0) fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (fd > STDERR_FILENO) ::close(fd);
}

// CLI11 tells of a missing command before it tells of an unknown word; people want the word.
std::string usage_text(const CLI::App& app, const CLI::ParseError& error) {
  const auto rest = app.remaining();
  if (app.get_subcommands().empty() && !rest.empty() && !rest.front().starts_with('-')) {
    return fmt::format("{}: unknown command: see clonectl --help", rest.front());
  }
  return fmt::format("{}: see clonectl --help", error.what());
}

int run(int argc, char** argv) {
  CLI::App app("Makes clone LUNs of tcmu-runner, looks at them and steers them.", "clonectl");
  Context context;
  if (const char* path = std::getenv("TCMU_CLONE_SOCKET"); path != nullptr && *path != '\0') {
    context.socket_path = path;
  }
  app.add_option("--socket", context.socket_path,
                 "The control socket of the daemon (or TCMU_CLONE_SOCKET)");
  app.set_version_flag("--version", CLONEDEV_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  add_create(app, context);
  add_delete(app, context);
  add_list(app, context);
  add_status(app, context);
  add_message(app, context);
  add_set(app, context);
  add_wait(app, context);
  add_detach(app, context);
  add_verify(app, context);
  add_check(app);
  add_dump(app);
  add_repair(app);
  add_restore(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return report(ExitCode::usage, usage_text(app, error));
  } catch (const CommandError& error) {
    std::fflush(stdout);
    return report(error.code(), error.what());
  } catch (const Json::exception&) {
    return report(
        ExitCode::failed,
        "the reply is not understood: do clonectl and the handler have the same version?");
  } catch (const std::system_error& error) {  // Of fmt::print.
    return report(ExitCode::failed, fmt::format("cannot write the output: {}", error.what()));
  }
  return std::fflush(stdout) == 0 ? 0 : report(ExitCode::failed, "cannot write the output");
}

}  // namespace
}  // namespace clonectl

int main(int argc, char** argv) {
  clonectl::occupy_standard_descriptors();
  return clonectl::run(argc, argv);
}
