// A first Ctrl-C (or SIGTERM, SIGHUP) lets the command take back what it did; a second one kills
// it.
//
// Thread: one; one object at a time.
#pragma once

namespace clonectl {

class Interrupts {
 public:
  Interrupts();
  // Throws CommandError when there was one.
  void check() const;
};

}  // namespace clonectl
