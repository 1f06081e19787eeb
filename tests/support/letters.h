// What may happen to a tiny disk, a letter each, so that a history is a word: easy to enumerate,
// to print and to repeat.
//
//   w  write block 0                 d  discard blocks 0 and 1
//   W  write blocks 0 and 1          z  zero block 1, keeping it
//   p  write within block 0          v  the same with FUA
//   x  write across blocks 0 and 1   y  zero from block 0 to block 2
//   e  write the last block          c  COMPARE AND WRITE in block 0
//   u  write block 1 with FUA        f  FLUSH
//   g  read all                      t  periodic commit
//   h  hydrate one extent            r  close and open
//   k  kill -9 and open
//   n, a  power cut and open: nothing unflushed is left, or all of it
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
