#include "engine/fetcher.h"

#include <cstring>

#include "io/iovecs.h"

namespace clonedev {

Task<Result<std::shared_ptr<Fetcher::Fetched>>> Fetcher::get(Extent extent, BufferPool::Use use,
                                                             Scheduler::TimePoint give_up) {
  auto fetched = std::make_shared<Fetched>();
  fetched->extent = extent;
  spawn(run(fetched, use, give_up));
  const bool in_time = co_await fetched->done.wait_until(give_up);
  if (!in_time) co_return fail(Errc::busy, "the origin did not answer in time");
  if (!fetched->outcome) co_return fail(fetched->outcome.error());
  co_return fetched;
}

Task<> Fetcher::idle() {
  while (!reads_.idle()) co_await reads_.wait_for_change();
}

Task<> Fetcher::run(std::shared_ptr<Fetched> fetched, BufferPool::Use use,
                    Scheduler::TimePoint give_up) {
  const Gate::Holder holder = reads_.enter();
  fetched->buffer = co_await pool_.acquire(fetched->extent.length, use);
  if (Scheduler::current().now() >= give_up) {  // Whoever wanted it has been answered.
    fetched->outcome = fail(Errc::busy, "the origin did not answer in time");
    fetched->buffer = {};
    fetched->done.set();
    co_return;
  }
  const Extent wanted = fetched->extent;
  const Extent there = intersect(wanted, {0, origin_ ? origin_->size() : 0});
  const std::span<std::byte> bytes = fetched->bytes();
  if (!there.empty()) {
    fetched->outcome = co_await origin_->read(there.offset, bytes.first(there.length), give_up);
  }
  if (there.length < wanted.length) {
    std::memset(bytes.data() + there.length, 0, wanted.length - there.length);
  }
  fetched->done.set();
}

Task<Result<>> Fetcher::read(Extent extent, std::span<const iovec> data,
                             Scheduler::TimePoint give_up) {
  std::vector<Task<Result<>>> parts;
  for (std::uint64_t done = 0; done < extent.length; done += kLargest) {
    const Extent part{extent.offset + done, std::min(kLargest, extent.length - done)};
    std::vector<iovec> target = iov_slice(data, done, part.length);
    parts.push_back(read_part(part, std::move(target), give_up));
  }
  Result<> outcome;
  for (Task<Result<>>& part : parts) {
    auto read = co_await std::move(part);
    if (!read && outcome) outcome = std::move(read);
  }
  co_return outcome;
}

Task<Result<>> Fetcher::read_part(Extent extent, std::vector<iovec> data,
                                  Scheduler::TimePoint give_up) {
  auto fetched = co_await get(extent, BufferPool::Use::command, give_up);
  if (!fetched) co_return fail(fetched.error());
  iov_copy_in((*fetched)->bytes(), data);
  co_return Result<>{};
}

}  // namespace clonedev
