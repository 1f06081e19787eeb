"""The log of the kernel's dm-log-writes, and disks made of it.

The log begins with one sector of superblock: magic, version, count of entries (64 bits each), sector size
(32 bits), all little endian. An entry is one sector - first sector, count of sectors, flags, length of what
follows in this sector, 64 bits each; a mark's name follows - and then, unless it is a discard, its data.
Entries are in the order in which writes became durable: those before a FLUSH when it ended, a FUA
when itself ended (Documentation/admin-guide/device-mapper/log-writes.rst).
"""

import os
import struct

FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
MAGIC, VERSION = 0x6A736677736872, 1
SUPER = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")


class Entry:
    def __init__(self, offset, length, flags, mark, data_at):
        self.offset, self.length, self.flags, self.mark = offset, length, flags, mark
        self.data_at = data_at

    def is_boundary(self):
        """Whether a power cut right after it is one that the log can tell of."""
        return self.flags & (FLUSH | FUA | MARK) != 0


class Log:
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY)
        magic, version, self.count, self.sector = SUPER.unpack(os.pread(self.fd, SUPER.size, 0))
        if (magic, version) != (MAGIC, VERSION):
            raise ValueError(f"{path}: is no log of dm-log-writes")

    def entries(self):
        at = self.sector
        for _ in range(self.count):
            head = os.pread(self.fd, self.sector, at)
            first, sectors, flags, tail = ENTRY.unpack_from(head)
            mark = head[ENTRY.size:ENTRY.size + tail].rstrip(b"\0").decode() if flags & MARK else None
            at += self.sector
            length = sectors * self.sector
            yield Entry(first * self.sector, length, flags, mark, at)
            if not flags & DISCARD:
                at += length

    def apply(self, entry, disk):
        """A discard is applied by its strongest meaning, so that nobody counts on what was there."""
        if entry.length == 0:
            return
        if entry.flags & DISCARD:
            data = b"\xde" * entry.length
        else:
            data = os.pread(self.fd, entry.length, entry.data_at)
        if os.pwrite(disk, data, entry.offset) != entry.length:
            raise OSError(f"short write of {entry.length} bytes at {entry.offset}")
