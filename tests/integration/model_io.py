#!/usr/bin/python3
"""Random I/O on a LUN and on a plain file beside it, the model, which always says what the LUN must hold.

  model_io.py DEVICE MODEL --seed N --until FILE [--offset BYTES] [--length BYTES] [--threads N] [--errors [--late]]

Each thread owns a slice of the range, so that no two commands in flight touch the same block and the
model has one answer for every byte. Commands: writes and reads of 512 bytes to 128 KiB at any sector,
discards, zeroing, flushes. A read that differs from the model ends the run at once. Runs until FILE
exists and every thread has done at least 50 commands. Exit status: 0, or 1 with a sentence and the seed.

With --errors the device may fail commands. After a change that failed each sector has several legal
contents, until a read has seen one of them, which it keeps, or the next change succeeds. In the end
every range is read again; then the model is exact. Whatever still fails there ends the run with 1.
With --late too, a change that failed may still take place until the end, or until the next one has
succeeded; so reads settle nothing before.
"""

import argparse
import fcntl
import mmap
import os
import random
import struct
import sys
import threading
import time

SECTOR = 512
BLOCK = 4096
LARGEST = 128 * 1024
BLKDISCARD = 0x1277
BLKZEROOUT = 0x127F


class Doubts:
    """Which sectors may hold something else than the model says, because a change of them failed."""

    def __init__(self, model, late):
        self.model = model
        self.late = late
        self.legal = {}  # Sector number: what it may hold.

    def failed(self, offset, data):
        for sector, new in sectors_of(offset, data):
            held = self.legal.setdefault(sector, [os.pread(self.model, SECTOR, sector * SECTOR)])
            held.append(new)

    def settled(self, offset, length):
        if self.legal:
            for sector in range(offset // SECTOR, (offset + length) // SECTOR):
                self.legal.pop(sector, None)

    def seen(self, offset, data):
        """What was read and is legal is what counts from now on, or as long as nothing is late."""
        if self.legal:
            for sector, found in sectors_of(offset, data):
                if found in self.legal.get(sector, ()):
                    os.pwrite(self.model, found, sector * SECTOR)
                    if not self.late:
                        del self.legal[sector]


def sectors_of(offset, data):
    return (((offset + i) // SECTOR, bytes(data[i:i + SECTOR])) for i in range(0, len(data), SECTOR))


class Slice(threading.Thread):
    def __init__(self, options, first, length, seed):
        super().__init__()
        self.options, self.first, self.length = options, first, length
        self.random = random.Random(seed)
        self.device = os.open(options.device, os.O_RDWR | os.O_DIRECT)
        self.model = os.open(options.model, os.O_RDWR)
        self.buffer = mmap.mmap(-1, LARGEST)  # O_DIRECT wants aligned memory.
        self.doubts = Doubts(self.model, options.late)
        self.commands = 0
        self.errors = 0
        self.trouble = None

    def run(self):
        try:
            while self.commands < 50 or not os.path.exists(self.options.until):
                self.step()
                self.commands += 1
            if self.options.errors:
                self.doubts.late = False
                self.read_all()
        except (OSError, ValueError) as error:
            self.trouble = str(error)

    def step(self):
        action = self.random.choices(
            (self.write, self.read, self.discard, self.zero, self.flush), (45, 40, 4, 4, 7))[0]
        try:
            action()
        except OSError:
            if not self.options.errors:
                raise
            self.errors += 1

    def change(self, offset, data, action):
        """A command after which [offset, offset + len(data)) holds data, unless it fails."""
        try:
            action()
        except OSError:
            self.doubts.failed(offset, data)
            raise
        self.doubts.settled(offset, len(data))
        os.pwrite(self.model, data, offset)

    def extent(self, unit):
        """An offset and a length in the slice, multiples of unit; small ones are as likely as large."""
        largest = self.random.choice((unit, 4 * unit, LARGEST))
        length = self.random.randrange(unit, max(largest, unit) + 1, unit)
        offset = self.random.randrange(0, self.length - length + 1, unit)
        return self.first + offset, length

    def view(self, length):
        return memoryview(self.buffer)[:length]

    def write(self):
        unit = self.random.choice((SECTOR, BLOCK, BLOCK))
        offset, length = self.extent(unit)
        data = self.random.randbytes(length)
        self.buffer[:length] = data
        self.change(offset, data, lambda: self.write_buffer(offset, length))

    def write_buffer(self, offset, length):
        if os.pwritev(self.device, [self.view(length)], offset) != length:
            # The kernel stops at the first of its parts that fails and names what came before.
            raise OSError(f"short write of {length} bytes at {offset}")

    def read(self):
        self.read_extent(*self.extent(SECTOR))

    def read_all(self):
        for offset in range(self.first, self.first + self.length, LARGEST):
            self.read_extent(offset, min(LARGEST, self.first + self.length - offset))

    def read_extent(self, offset, length):
        if os.preadv(self.device, [self.view(length)], offset) != length:
            raise OSError(f"short read of {length} bytes at {offset}")
        self.doubts.seen(offset, self.view(length))
        wanted = os.pread(self.model, length, offset)
        if self.buffer[:length] != wanted:
            bad = next(i for i in range(length) if self.buffer[i] != wanted[i])
            raise ValueError(f"byte {offset + bad} is not what was last written there "
                             f"(read of {length} bytes at {offset})")

    def discard(self):
        self.make_zero(BLKDISCARD, BLOCK)

    def zero(self):
        self.make_zero(BLKZEROOUT, SECTOR)

    def make_zero(self, request, unit):
        offset, length = self.extent(unit)
        words = struct.pack("QQ", offset, length)
        self.change(offset, bytes(length), lambda: fcntl.ioctl(self.device, request, words))

    def flush(self):
        os.fsync(self.device)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("device")
    parser.add_argument("model")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--until", required=True)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--length", type=int)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--errors", action="store_true")
    parser.add_argument("--late", action="store_true")
    options = parser.parse_args()
    length = options.length or os.stat(options.model).st_size - options.offset
    share = length // options.threads // BLOCK * BLOCK
    slices = [Slice(options, options.offset + i * share, share, f"{options.seed}/{i}")
              for i in range(options.threads)]
    started = time.monotonic()
    for one in slices:
        one.start()
    for one in slices:
        one.join()
    commands = sum(one.commands for one in slices)
    for one in slices:
        if one.trouble:
            print(f"model_io: seed {options.seed}: {one.trouble}", file=sys.stderr)
            return 1
    errors = sum(one.errors for one in slices)
    print(f"{commands} commands{f' ({errors} failed)' if options.errors else ''} in "
          f"{time.monotonic() - started:.0f} s, seed {options.seed}")
    return 0


sys.exit(main())
