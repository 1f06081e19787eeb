#include "lun_registry.h"

#include "lun.h"

namespace clonedev {

Status failed_status(std::string name, std::string reason) {
  Status status;
  status.name = std::move(name);
  status.state = CloneState::failed;
  status.mode = CloneMode::fail;
  status.reason = std::move(reason);
  return status;
}

bool LunRegistry::is_open(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = slots_.find(name);
  return found != slots_.end() && found->second.lun != nullptr;
}

void LunRegistry::add(std::shared_ptr<Lun> lun) {
  const std::lock_guard lock(mutex_);
  const auto [slot, is_new] = slots_.try_emplace(lun->name());
  if (!is_new && slot->second.lun == nullptr) --failures_;
  slot->second = Slot{std::move(lun), "", next_order_++};
}

void LunRegistry::add_failure(const std::string& name, std::string reason) {
  const std::lock_guard lock(mutex_);
  const auto [slot, is_new] = slots_.try_emplace(name);
  if (slot->second.lun != nullptr) return;
  if (is_new) ++failures_;
  slot->second = Slot{nullptr, std::move(reason), next_order_++};
  if (failures_ > kMostFailures) forget_oldest_failure();
}

void LunRegistry::forget_oldest_failure() {
  auto oldest = slots_.end();
  for (auto slot = slots_.begin(); slot != slots_.end(); ++slot) {
    if (slot->second.lun != nullptr) continue;
    if (oldest == slots_.end() || slot->second.order < oldest->second.order) oldest = slot;
  }
  if (oldest == slots_.end()) return;
  slots_.erase(oldest);
  --failures_;
}

void LunRegistry::remove(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto slot = slots_.find(name);
  if (slot == slots_.end()) return;
  if (slot->second.lun == nullptr) --failures_;
  slots_.erase(slot);
}

bool LunRegistry::forget_failure(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto slot = slots_.find(name);
  if (slot == slots_.end() || slot->second.lun != nullptr) return false;
  slots_.erase(slot);
  --failures_;
  return true;
}

std::optional<LunRegistry::Entry> LunRegistry::find(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto slot = slots_.find(name);
  if (slot == slots_.end()) return std::nullopt;
  return Entry{slot->first, slot->second.lun, slot->second.reason};
}

std::vector<LunRegistry::Entry> LunRegistry::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<Entry> entries;
  entries.reserve(slots_.size());
  for (const auto& [name, slot] : slots_) entries.push_back({name, slot.lun, slot.reason});
  return entries;
}

}  // namespace clonedev
