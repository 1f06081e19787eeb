#include "engine/fetcher.h"

#include <algorithm>

#include "io/iovecs.h"

namespace clonedev {
namespace {

constexpr std::uint64_t kPartOfCommand = std::uint64_t{1} << 20;

Error not_in_time() { return {make_error_code(Errc::busy), "the origin did not answer in time"}; }

}  // namespace

// ---- the list ----

void Fetcher::Fetched::unlist() {
  if (list_) list_->erase(where_);
  list_ = nullptr;
}

void Fetcher::list(const Shared& fetched) {
  fetched->list_ = &listed_;
  fetched->where_ = listed_.emplace(fetched->extent.offset, fetched);
}

Fetcher::Shared Fetcher::find(Extent extent) const {
  for (auto it = listed_.upper_bound(extent.offset); it != listed_.begin();) {
    --it;
    if (it->first + BufferPool::kLargest <= extent.offset) break;  // None is longer.
    Shared fetched = it->second.lock();
    if (fetched && fetched->extent.end() >= extent.end()) return fetched;
  }
  return nullptr;
}

Extent Fetcher::first_part(Extent extent) const {
  const std::uint64_t longest = BufferPool::kLargest;
  auto it = listed_.lower_bound(extent.offset > longest ? extent.offset - longest : 0);
  std::uint64_t inside = 0;
  for (; it != listed_.end() && it->first < extent.end(); ++it) {
    const Shared fetched = it->second.lock();
    if (!fetched || fetched->extent.end() <= extent.offset) continue;
    if (it->first > extent.offset) {
      if (inside == 0) extent.length = it->first - extent.offset;
      break;
    }
    inside = std::max(inside, fetched->extent.end() - extent.offset);
  }
  if (inside > 0) extent.length = std::min(extent.length, inside);
  return extent;
}

// ---- one read ----

Fetcher::Shared Fetcher::make(Extent extent, Purpose purpose, Scheduler::TimePoint give_up) {
  auto fetched = std::make_shared<Fetched>(extent);
  fetched->give_up_ = give_up;
  fetched->for_users_ = purpose == Purpose::user_data;
  return fetched;
}

Fetcher::Shared Fetcher::join(Extent extent, BufferPool::Use use, Purpose purpose,
                              Scheduler::TimePoint give_up) {
  Shared fetched = find(extent);
  if (!fetched) return nullptr;
  fetched->give_up_ = std::max(fetched->give_up_, give_up);
  if (fetched->memory_ && use == BufferPool::Use::command) pool_.hurry(*fetched->memory_);
  if (purpose == Purpose::user_data) {
    fetched->for_users_ = true;
    if (fetched->done_.is_set() && on_user_data_) on_user_data_(fetched);
  }
  return fetched;
}

Task<Result<Fetcher::Shared>> Fetcher::get(Extent extent, BufferPool::Use use,
                                           Scheduler::TimePoint give_up) {
  co_return co_await get_for(extent, use, Purpose::other, give_up);
}

Task<Result<Fetcher::Shared>> Fetcher::get_for(Extent extent, BufferPool::Use use, Purpose purpose,
                                               Scheduler::TimePoint give_up) {
  while (true) {
    Shared fetched = join(extent, use, purpose, give_up);
    if (!fetched) {
      fetched = make(extent, purpose, give_up);
      list(fetched);
      spawn(run(fetched, use));
    }
    auto got = co_await wait_for(fetched, give_up);
    const bool beside = !got && got.error().code == Errc::origin_read && fetched->extent != extent;
    if (!beside) co_return got;
  }
}

Task<Result<Fetcher::Shared>> Fetcher::wait_for(Shared fetched, Scheduler::TimePoint give_up) {
  const bool in_time = co_await fetched->done_.wait_until(give_up);
  if (!in_time) {
    fetched->unlist();
    co_return fail(not_in_time());
  }
  if (!fetched->outcome_) co_return fail(fetched->outcome_.error());
  co_return fetched;
}

Task<> Fetcher::idle() {
  while (!reads_.idle()) co_await reads_.wait_for_change();
}

Task<> Fetcher::run(Shared fetched, BufferPool::Use use) {
  const Gate::Holder holder = reads_.enter();
  BufferPool::Acquire memory = pool_.acquire(fetched->extent.length, use);
  fetched->memory_ = &memory;
  fetched->buffer_ = co_await memory;
  fetched->memory_ = nullptr;
  fetched->outcome_ = fail(not_in_time());
  Scheduler& scheduler = Scheduler::current();
  // When its time is up whoever wanted it has been answered; a joiner may have more.
  while (scheduler.now() < fetched->give_up_) {
    const auto give_up = fetched->give_up_;
    fetched->outcome_ = co_await fill(*fetched, give_up);
    const bool out_of_time = !fetched->outcome_ && scheduler.now() >= give_up &&
                             fetched->outcome_.error().code == Errc::busy;
    if (!out_of_time) break;
  }
  if (!fetched->outcome_) {
    fetched->unlist();
    fetched->buffer_ = {};
  }
  fetched->done_.set();
  if (fetched->outcome_ && fetched->for_users_ && on_user_data_) on_user_data_(fetched);
}

Task<Result<>> Fetcher::fill(Fetched& fetched, Scheduler::TimePoint give_up) {
  const Extent wanted = fetched.extent;
  const Extent there = intersect(wanted, {0, origin_ ? origin_->size() : 0});
  const std::span<std::byte> room = fetched.buffer_.span();
  OriginBytes brought{room.first(0)};
  if (!there.empty()) {
    auto read = co_await origin_->read(there.offset, room.first(there.length), give_up);
    if (!read) co_return fail(read.error());
    brought = std::move(*read);
  }
  if (there.length < wanted.length) {
    if (brought.memory) std::ranges::copy(brought.bytes, room.begin());
    std::ranges::fill(room.subspan(there.length), std::byte{0});
    brought = OriginBytes{room};
  }
  fetched.content_ = std::move(brought);
  co_return Result<>();
}

// ---- for commands ----

Task<Result<>> Fetcher::read(Extent extent, Extent blocks, std::span<const iovec> data,
                             Purpose purpose, Scheduler::TimePoint give_up) {
  std::vector<Task<Result<>>> parts;
  while (!blocks.empty()) {
    const Extent part = first_part({blocks.offset, std::min(kPartOfCommand, blocks.length)});
    const Extent wanted = intersect(part, extent);
    std::vector<iovec> target = iov_slice(data, wanted.offset - extent.offset, wanted.length);
    parts.push_back(read_part(part, wanted, std::move(target), purpose, give_up));
    blocks = {part.end(), blocks.end() - part.end()};
  }
  Result<> outcome;
  for (Task<Result<>>& part : parts) {
    auto read = co_await std::move(part);
    if (!read && outcome) outcome = std::move(read);
  }
  co_return outcome;
}

Task<Result<>> Fetcher::read_part(Extent part, Extent wanted, std::vector<iovec> data,
                                  Purpose purpose, Scheduler::TimePoint give_up) {
  auto fetched = co_await get_for(part, BufferPool::Use::command, purpose, give_up);
  if (!fetched && fetched.error().code == Errc::origin_read && wanted != part) {
    // Its sectors may be fine, and only others of the same block bad. Nobody joins this one.
    Shared alone = make(wanted, Purpose::other, give_up);
    spawn(run(alone, BufferPool::Use::command));
    fetched = co_await wait_for(std::move(alone), give_up);
  }
  if (!fetched) co_return fail(fetched.error());
  iov_copy_in((*fetched)->bytes(wanted), data);
  co_return Result<>{};
}

}  // namespace clonedev
