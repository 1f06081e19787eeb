// What may happen to a tiny disk, a letter each, so that a history is a word: easy to enumerate,
// to print and to repeat.
//
//   w  write block 0                 d  discard blocks 0 and 1         h  hydrate one extent
//   W  write blocks 0 and 1          z  zero block 1, keeping it       t  periodic commit
//   p  write within block 0          y  zero from block 0 to block 2   r  close and open
//   x  write across blocks 0 and 1   c  COMPARE AND WRITE in block 0   k  kill -9 and open
//   e  write the last block          f  FLUSH                          n  power cut, all unflushed
//   lost u  write block 1 with FUA        g  read all                       a  power cut, nothing
//   lost
//
// Disks have two blocks and a third one, which may be short.
#pragma once

#include <string_view>

#include "support/shadow_client.h"

namespace clonedev {

struct Letter {
  enum class Act { request, hydrate, commit, restart, kill, lose, keep };

  char name;
  Act act;
  ShadowClient::Request request;  // Its extent may go past the end of the disk; see request_on().
};

// Aborts for a letter that does not exist.
const Letter& letter_of(char name);
// The request on a disk of that size.
ShadowClient::Request request_on(const Letter& letter, std::uint64_t size);

}  // namespace clonedev
