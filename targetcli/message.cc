#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "control_client.h"
#include "human.h"

namespace clonectl {

void add_message(CLI::App& app, const Context& context) {
  auto* command = app.add_subcommand("message", "Send one of dm-clone's messages; transient");
  auto name = std::make_shared<std::string>();
  auto words = std::make_shared<std::vector<std::string>>();
  command->add_option("NAME", *name, "The LUN")->required();
  command
      ->add_option("MESSAGE", *words,
                   "enable_hydration, disable_hydration, hydration_threshold N, "
                   "hydration_batch_size N or clear_needs_check")
      ->required();
  command->callback([&context, name, words] {
    std::vector<std::string> request = {"message", *name};
    request.insert(request.end(), words->begin(), words->end());
    const Json result = ControlClient(context.socket_path).request(request);
    if (result.is_string()) {
      fmt::print("{}\n", printable(result.get<std::string>()));
    }
  });
}

}  // namespace clonectl
