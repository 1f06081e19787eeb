#include "support/faulty_device.h"

#include "io/iovecs.h"

namespace clonedev {

std::uint64_t FaultyDevice::count(Kind kind) const { return counts_[kind]; }

FaultyDevice::Verdict FaultyDevice::judge(Kind kind, Extent extent) {
  ++counts_[kind];
  if (fail_all_) {
    ++failed_;
    return {true, Effect::none, Rule{}.error};
  }
  for (Rule& rule : rules_) {
    if (!(rule.kinds & kind)) continue;
    if (kind != kFlush && !rule.range.overlaps(extent)) continue;
    if (rule.skip > 0) {
      --rule.skip;
      continue;
    }
    if (rule.times == 0) continue;
    --rule.times;
    ++failed_;
    return {true, rule.effect, rule.error};
  }
  return {};
}

Task<Result<>> FaultyDevice::read(std::uint64_t offset, std::span<const iovec> data) {
  const Verdict verdict = judge(kRead, {offset, iov_length(data)});
  if (verdict.fails) co_return fail(verdict.error);
  co_return co_await lower_.read(offset, data);
}

Task<Result<>> FaultyDevice::write(std::uint64_t offset, std::span<const iovec> data) {
  const Verdict verdict = judge(kWrite, {offset, iov_length(data)});
  if (verdict.fails && verdict.effect == Effect::none) co_return fail(verdict.error);
  auto outcome = co_await lower_.write(offset, data);
  if (verdict.fails) co_return fail(verdict.error);
  co_return outcome;
}

Task<Result<>> FaultyDevice::flush() {
  const Verdict verdict = judge(kFlush, {});
  if (verdict.fails && verdict.effect == Effect::none) co_return fail(verdict.error);
  auto outcome = co_await lower_.flush();
  if (verdict.fails) co_return fail(verdict.error);
  co_return outcome;
}

Task<Result<>> FaultyDevice::zero(Extent extent, bool deallocate) {
  const Verdict verdict = judge(kZero, extent);
  if (verdict.fails && verdict.effect == Effect::none) co_return fail(verdict.error);
  auto outcome = co_await lower_.zero(extent, deallocate);
  if (verdict.fails) co_return fail(verdict.error);
  co_return outcome;
}

}  // namespace clonedev
