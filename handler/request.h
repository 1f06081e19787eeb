// A command on its way through the device, from the callout to tcmur_cmd_complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "clonedev/error.h"
#include "completer.h"
#include "scsi/status.h"
#include "steps/steps.h"
#include "tcmu_abi.h"

namespace clonedev {

class Lun;

struct Request : Completer::Item {
  Lun* lun = nullptr;
  tcmur_cmd* cmd = nullptr;
  Operation operation = Operation::read;
  std::uint64_t length = 0;      // Of its data in bytes, where the clone was asked at once.
  std::unique_ptr<Steps> steps;  // Null: a single request to the device.
  Result<> outcome;              // Of the last request.
  bool begun = false;            // An earlier one has had its effect.
};

// Keeps some requests ready, since on a loopback LUN an allocation may have to wait for this very
// LUN to write pages back. Thread: any.
class RequestPool {
 public:
  explicit RequestPool(std::size_t ready);

  // Null when memory is short.
  std::unique_ptr<Request> take();
  void give_back(std::unique_ptr<Request> request);

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Request>> free_;  // Guarded by mutex_; never grows past its capacity.
};

}  // namespace clonedev
