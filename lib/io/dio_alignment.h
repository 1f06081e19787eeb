// What O_DIRECT asks of offsets, lengths and memory.
#pragma once

#include <cstdint>

namespace clonedev {

// 512 or 4096; 0 when the file system has no O_DIRECT for this file. Asks the kernel (statx(2),
// STATX_DIOALIGN, Linux 6.1), else the disk beneath; 4096 where neither knows, which is always
// safe. A trial read proves nothing: a hole is read without any check. Thread: any.
std::uint32_t dio_alignment(int fd);

}  // namespace clonedev
