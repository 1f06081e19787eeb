// The commands of clonectl. Each has a file of its own and adds itself to the application; its
// callback runs during parsing and throws CommandError when it cannot do its work.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace clonectl {

// What all commands share; lives as long as the application.
struct Context {
  std::string socket_path = "/run/tcmu-clone/control.sock";
};

void add_create(CLI::App& app, const Context& context);
void add_delete(CLI::App& app, const Context& context);
void add_list(CLI::App& app, const Context& context);
void add_status(CLI::App& app, const Context& context);
void add_message(CLI::App& app, const Context& context);
void add_set(CLI::App& app, const Context& context);
void add_wait(CLI::App& app, const Context& context);
void add_detach(CLI::App& app, const Context& context);
void add_verify(CLI::App& app, const Context& context);

// Those of metadata that no daemon has open.
void add_check(CLI::App& app);
void add_dump(CLI::App& app);
void add_repair(CLI::App& app);
void add_restore(CLI::App& app);

}  // namespace clonectl
