#!/usr/bin/python3
"""Random I/O on a LUN and on a plain file beside it, the model, which always says what the LUN must hold.

  model_io.py DEVICE MODEL --seed N --until FILE [--offset BYTES] [--length BYTES] [--threads N]

Each thread owns a slice of the range, so that no two commands in flight touch the same block and the
model has one answer for every byte. Commands: writes and reads of 512 bytes to 128 KiB at any sector,
discards, zeroing, flushes. A read that differs from the model ends the run at once. Runs until FILE
exists and every thread has done at least 50 commands. Exit status: 0, or 1 with a sentence and the seed.
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


class Slice(threading.Thread):
    def __init__(self, options, first, length, seed):
        super().__init__()
        self.options, self.first, self.length = options, first, length
        self.random = random.Random(seed)
        self.device = os.open(options.device, os.O_RDWR | os.O_DIRECT)
        self.model = os.open(options.model, os.O_RDWR)
        self.buffer = mmap.mmap(-1, LARGEST)  # O_DIRECT wants aligned memory.
        self.commands = 0
        self.trouble = None

    def run(self):
        try:
            while self.commands < 50 or not os.path.exists(self.options.until):
                self.step()
                self.commands += 1
        except (OSError, ValueError) as error:
            self.trouble = str(error)

    def step(self):
        action = self.random.choices(
            (self.write, self.read, self.discard, self.zero, self.flush), (45, 40, 4, 4, 7))[0]
        action()

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
        if os.pwritev(self.device, [self.view(length)], offset) != length:
            raise ValueError(f"short write of {length} bytes at {offset}")
        os.pwrite(self.model, data, offset)

    def read(self):
        offset, length = self.extent(SECTOR)
        if os.preadv(self.device, [self.view(length)], offset) != length:
            raise ValueError(f"short read of {length} bytes at {offset}")
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
        fcntl.ioctl(self.device, request, struct.pack("QQ", offset, length))
        os.pwrite(self.model, bytes(length), offset)

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
    print(f"{commands} commands in {time.monotonic() - started:.0f} s, seed {options.seed}")
    return 0


sys.exit(main())
