#include "support/letters.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>

namespace clonedev {
namespace {

using Act = Letter::Act;
using Kind = ShadowClient::Request::Kind;

constexpr Extent sectors(std::uint64_t first, std::uint64_t count) {
  return {first * 512, count * 512};
}

constexpr Letter kLetters[] = {
    {'w', Act::request, {Kind::write, sectors(0, 8)}},
    {'W', Act::request, {Kind::write, sectors(0, 16)}},
    {'p', Act::request, {Kind::write, sectors(3, 2)}},
    {'x', Act::request, {Kind::write, sectors(6, 4)}},
    {'e', Act::request, {Kind::write, sectors(16, 8)}},
    {'u', Act::request, {Kind::write, sectors(8, 8), true}},
    {'d', Act::request, {Kind::zero, sectors(0, 16), false, Zeroing::deallocate}},
    {'z', Act::request, {Kind::zero, sectors(8, 8), false, Zeroing::keep}},
    {'v', Act::request, {Kind::zero, sectors(8, 8), true, Zeroing::keep}},
    {'y', Act::request, {Kind::zero, sectors(2, 16), false, Zeroing::deallocate}},
    {'c', Act::request, {Kind::compare, sectors(3, 1)}},
    {'f', Act::request, {Kind::flush, {}}},
    {'g', Act::request, {Kind::read, sectors(0, 24)}},
    {'h', Act::hydrate, {}},
    {'t', Act::commit, {}},
    {'r', Act::restart, {}},
    {'k', Act::kill, {}},
    {'n', Act::lose, {}},
    {'a', Act::keep, {}},
};

}  // namespace

const Letter& letter_of(char name) {
  const auto it = std::ranges::find(kLetters, name, &Letter::name);
  if (it != std::end(kLetters)) return *it;
  std::fprintf(stderr, "letters: there is no letter '%c'\n", name);
  std::abort();
}

ShadowClient::Request request_on(const Letter& letter, std::uint64_t size) {
  ShadowClient::Request request = letter.request;
  request.extent = intersect(request.extent, {0, size});
  return request;
}

}  // namespace clonedev
