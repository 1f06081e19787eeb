#include "bench/native/hydration_phases.h"

#include <thread>

namespace clonedev::bench {

void HydrationPhases::wait_until_idle() const {
  using namespace std::chrono;
  const auto until = steady_clock::now() + seconds(60);
  while (lun_.status()["regions"]["hydrating"] != 0) {
    if (steady_clock::now() > until) give_up("disable_hydration: copies are under way after 60 s");
    std::this_thread::sleep_for(milliseconds(10));
  }
}

}  // namespace clonedev::bench
