#!/usr/bin/python3
"""One seeded stream of requests to the kernel's dm-clone and to our LUN, compared after every step.

  differential.py NAME --dm DEVICE --lun DEVICE --origin FILE --dm-dest DEVICE --lun-dest DEVICE
                  --region BYTES --passdown on|off --clonectl PATH --models FILE --seed N --steps N
                  [--strict] [--drain]

Both destinations were full of STALE bytes when the two clones were made, and NAME is what both are called.
Of each there is a model, made of nothing but what docs/dm-clone.md says of it: what every byte reads as, and
which regions are hydrated. After every step both devices must hold what their models say, the models may
differ in bytes only where something was discarded and not written since, and the status lines are compared
field for field. FILE takes the models, so that a second run goes on where the first one ended. Exit status: 0,
or 1 with a sentence, the step and the seed.
"""

import argparse
import collections
import fcntl
import json
import mmap
import os
import pickle
import random
import socket
import struct
import subprocess
import sys
import time

from dm_ioctl import DmDevice

SECTOR = 512
BLOCK = 4096
LARGEST = 1 << 20
STALE = 0xEE
BLKDISCARD = 0x1277
PATIENCE_S = 30
SOCKET = "/run/tcmu-clone/control.sock"

# What both refuse, and what dm-clone alone takes: docs/dm-clone.md says why.
REFUSED_BY_BOTH = ("hydrate", "hydration_threshold", "hydration_threshold many", "hydration_threshold -1",
                   "hydration_threshold 4294967296", "hydration_threshold 1 2", "hydration_batch_size",
                   "hydration_batch_size 1x", "hydration_threshold 0x10", "enable", "hydration_batch_size 1 1")
TAKEN_BY_DM_CLONE = ("hydration_threshold 0", "hydration_batch_size 0", "hydration_threshold +5",
                     "disable_hydration now")


class KernelModel:
    """dm-clone: one bit a region; a write into a region that is still at the origin copies all of it."""

    def __init__(self, origin, region, passdown):
        self.origin, self.region, self.passdown = origin, region, passdown
        self.dest = bytearray([STALE]) * len(origin)
        self.hydrated = bytearray(-(-len(origin) // region))

    def size(self):
        return len(self.origin)

    def place(self, index):
        return slice(index * self.region, min((index + 1) * self.region, len(self.origin)))

    def touched(self, offset, length):
        return range(offset // self.region, (offset + length - 1) // self.region + 1)

    def read(self, offset, length):
        shown = bytearray(self.dest[offset:offset + length])
        for index in self.touched(offset, length):
            if not self.hydrated[index]:
                place = self.place(index)
                begin, end = max(place.start, offset), min(place.stop, offset + length)
                shown[begin - offset:end - offset] = self.origin[begin:end]
        return bytes(shown)

    def write(self, offset, data):
        for index in self.touched(offset, len(data)):
            self.copy(index)
        self.dest[offset:offset + len(data)] = data

    def copy(self, index):
        if not self.hydrated[index]:
            self.dest[self.place(index)] = self.origin[self.place(index)]
            self.hydrated[index] = 1

    def discard(self, offset, length):
        """Whole regions only, the short last one never; what is read then is the destination's affair."""
        for index in range(-(-offset // self.region), (offset + length) // self.region):
            self.hydrated[index] = 1
            if self.passdown:
                self.dest[self.place(index)] = bytes(self.region)

    def learn(self, dest):
        """Which regions were copied in the background: their bytes are on the destination now."""
        for index, there in enumerate(self.hydrated):
            place = self.place(index)
            if not there and any(byte != STALE for byte in dest[place.start:place.start + 16]):
                self.copy(index)

    def hydrated_regions(self):
        return sum(self.hydrated)


class CloneModel:
    """Our LUN: one state a block of 4 KiB whatever the region size; what was discarded reads as zeroes."""

    def __init__(self, origin, region):
        self.region = region
        self.content = bytearray(origin)
        self.off_origin = bytearray(-(-len(origin) // BLOCK))

    def size(self):
        return len(self.content)

    def read(self, offset, length):
        return bytes(self.content[offset:offset + length])

    def write(self, offset, data):
        self.content[offset:offset + len(data)] = data
        for block in range(offset // BLOCK, (offset + len(data) - 1) // BLOCK + 1):
            self.off_origin[block] = 1

    def discard(self, offset, length):
        self.write(offset, bytes(length))

    def learn(self, dest):
        for block, there in enumerate(self.off_origin):
            begin = block * BLOCK
            if not there and any(byte != STALE for byte in dest[begin:begin + 16]):
                self.off_origin[block] = 1

    def hydrated_regions(self):
        per_region = self.region // BLOCK
        return sum(all(self.off_origin[i:i + per_region]) for i in range(0, len(self.off_origin), per_region))


class Disk:
    """A block device without the page cache in between."""

    def __init__(self, path, flags=os.O_RDWR):
        self.fd = os.open(path, flags | os.O_DIRECT)
        self.buffer = mmap.mmap(-1, LARGEST)

    def read(self, offset, length):
        found = bytearray()
        while len(found) < length:
            want = min(LARGEST, length - len(found))
            with memoryview(self.buffer)[:want] as view:
                if os.preadv(self.fd, [view], offset + len(found)) != want:
                    raise OSError(f"short read of {want} bytes at {offset + len(found)}")
                found += view
        return bytes(found)

    def write(self, offset, data):
        self.buffer[:len(data)] = data
        with memoryview(self.buffer)[:len(data)] as view:
            if os.pwritev(self.fd, [view], offset) != len(data):
                raise OSError(f"short write of {len(data)} bytes at {offset}")

    def discard(self, offset, length):
        fcntl.ioctl(self.fd, BLKDISCARD, struct.pack("QQ", offset, length))

    def flush(self):
        os.fsync(self.fd)


def wait_until(true):
    end = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > end:
            raise ValueError("hydration makes no progress")
        time.sleep(0.01)


class Side:
    """A clone: its disk, its model, and how it is asked and told."""

    def __init__(self, device, dest, model):
        self.disk, self.model = Disk(device), model
        self.dest = Disk(dest, os.O_RDONLY)

    def learn(self):
        self.model.learn(self.dest.read(0, self.model.size()))

    def hydrated(self):
        return int(self.status()[3].split("/")[0])

    def wait_until_hydrated(self, regions):
        wait_until(lambda: self.hydrated() >= regions)

    def wait_until_idle(self):
        wait_until(lambda: self.status()[4] == "0")


class DmClone(Side):
    def __init__(self, name, *rest):
        super().__init__(*rest)
        self.target = DmDevice(name)

    def status(self):
        return self.target.status()

    def message(self, words):
        try:
            self.target.message(words)
        except OSError:
            return False
        return True


class Lun(Side):
    """Spoken to by the control socket: a clonectl takes a quarter of a second to start in a guest."""

    def __init__(self, name, clonectl, *rest):
        super().__init__(*rest)
        self.name, self.clonectl = name, clonectl

    def status(self):
        return self.ask(f"status {self.name}")["result"]["dm"].split()

    def message(self, words):
        return self.ask(f"message {self.name} {words}")["ok"]

    def ask(self, line):
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.connect(SOCKET)
            daemon.sendall(line.encode() + b"\n")
            with daemon.makefile() as answer:
                return json.loads(answer.readline())

    def status_of_clonectl(self):
        command = (self.clonectl, "status", self.name, "--dm")
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


class Stream:
    def __init__(self, kernel, ours, discarded, options):
        self.kernel, self.ours, self.both = kernel, ours, (kernel, ours)
        self.region, self.size = options.region, kernel.model.size()
        self.strict = options.strict
        self.discarded = discarded  # A byte a sector: discarded, and not written since.
        self.random = random.Random(options.seed)
        self.counts = collections.Counter()
        self.actions = [(self.write_regions, 12), (self.read, 12), (self.flush, 8), (self.message, 8),
                        (self.bad_message, 4)]
        if not self.strict or self.region == BLOCK:
            self.actions.append((self.write, 30))
        if not self.strict or kernel.model.passdown:
            self.actions.append((self.discard_regions, 14))
        if not self.strict:
            self.actions += [(self.discard, 10), (self.hydrate, 3)]

    def step(self):
        action = self.random.choices(*zip(*self.actions))[0]
        self.counts[action.__name__] += 1
        offset, length = action() or self.extent()
        self.compare_bytes(max(0, offset - BLOCK), min(self.size, offset + length + BLOCK))
        self.compare_status()

    def extent(self, unit=SECTOR, most=128 * 1024):
        """Multiples of unit, but that the end of the disk may be shorter; small ones as likely as large."""
        units = -(-self.size // unit)
        longest = self.random.choice((1, 4, max(1, most // unit)))
        count = self.random.randint(1, min(longest, units))
        first = self.random.randint(0, units - count)
        if self.random.random() < 0.1:
            first = units - count
        return first * unit, min((first + count) * unit, self.size) - first * unit

    def write(self):
        return self.change(self.extent())

    def write_regions(self):
        return self.change(self.extent(self.region, LARGEST))

    def change(self, where):
        offset, length = where
        length = min(length, LARGEST)
        data = self.random.randbytes(length)
        for side in self.both:
            side.disk.write(offset, data)
            side.model.write(offset, data)
        self.mark(offset, length, 0)
        return offset, length

    def read(self):
        return self.extent(SECTOR, 512 * 1024)

    def discard(self):
        return self.discard_at(self.extent(SECTOR, 4 * self.region))

    def discard_regions(self):
        where = self.extent(self.region, 8 * self.region)
        ends_short = sum(where) % self.region != 0  # dm-clone never discards the short last region.
        return self.read() if self.strict and ends_short else self.discard_at(where)

    def discard_at(self, where):
        offset, length = where
        for side in self.both:
            side.disk.discard(offset, length)
            side.model.discard(offset, length)
        self.mark(offset, length, 1)
        return where

    def mark(self, offset, length, value):
        begin, end = offset // SECTOR, (offset + length) // SECTOR
        self.discarded[begin:end] = bytes([value]) * (end - begin)

    def flush(self):
        for side in self.both:
            side.disk.flush()

    def message(self):
        word = self.random.choice(("hydration_threshold", "hydration_batch_size"))
        name = self.random.choice((word, word.upper(), word.title()))
        self.tell(f"{name} {self.random.choice((1, 2, 3, 16, 256, 2**31, 2**32 - 1))}")

    def tell(self, words):
        for side in self.both:
            if not side.message(words):
                raise ValueError(f"{type(side).__name__} refuses: {words}")

    def bad_message(self):
        words = self.random.choice(REFUSED_BY_BOTH)
        for side in self.both:
            if side.message(words):
                raise ValueError(f"{type(side).__name__} takes: {words}")
        words = self.random.choice(TAKEN_BY_DM_CLONE)
        if not self.kernel.message(words) or self.ours.message(words):
            raise ValueError(f"not taken by dm-clone alone: {words}")
        line = self.ours.status()
        for name in ("hydration_threshold", "hydration_batch_size"):
            self.kernel.message(f"{name} {line[line.index(name) + 1]}")

    def hydrate(self):
        """A while of background copying on both, until each has copied something or is done."""
        enough = [side.hydrated() + self.random.randint(1, 40) for side in self.both]
        self.tell("hydration_threshold 1")
        self.tell("hydration_batch_size 1")
        self.hydrate_until(enough)

    def drain(self):
        self.tell("hydration_threshold 64")
        self.hydrate_until([self.regions()] * 2)
        self.compare_bytes(0, self.size)
        self.compare_status()

    def hydrate_until(self, enough):
        self.tell("enable_hydration")
        for side, regions in zip(self.both, enough):
            side.wait_until_hydrated(min(regions, self.regions()))
        self.tell("disable_hydration")
        for side in self.both:
            side.wait_until_idle()
            side.learn()

    def regions(self):
        return -(-self.size // self.region)

    def compare_bytes(self, begin, end):
        begin, end = begin // SECTOR * SECTOR, -(-end // SECTOR) * SECTOR
        expected = [side.model.read(begin, end - begin) for side in self.both]
        for side, wanted in zip(self.both, expected):
            found = side.disk.read(begin, end - begin)
            if found != wanted:
                bad = next(i for i in range(len(wanted)) if found[i] != wanted[i])
                raise ValueError(f"{type(side).__name__}: byte {begin + bad} is {found[bad]:#04x}, "
                                 f"not {wanted[bad]:#04x}")
        self.counts["bytes compared"] += end - begin
        if expected[0] == expected[1]:
            return
        if self.strict:
            raise ValueError("the models differ where they must not")
        for at in range(0, end - begin, SECTOR):
            if expected[0][at:at + SECTOR] != expected[1][at:at + SECTOR]:
                if not self.discarded[(begin + at) // SECTOR]:
                    raise ValueError(f"sector {(begin + at) // SECTOR} differs, and was not discarded")
                self.counts["sectors discarded that only we show as zeroes"] += 1

    def compare_status(self):
        theirs, ours = self.kernel.status(), self.ours.status()
        # The second field counts blocks of two different kinds of metadata.
        for line in (theirs, ours):
            used, total = map(int, line[1].split("/"))
            if not 0 < used <= total:
                raise ValueError(f"metadata blocks: {line[1]}")
        for side, line in ((self.kernel, theirs), (self.ours, ours)):
            wanted = f"{side.model.hydrated_regions()}/{self.regions()}"
            if line[3] != wanted:
                raise ValueError(f"{type(side).__name__}: {line[3]} regions, not {wanted}")
        if theirs[3] == ours[3]:
            self.counts["equal status lines"] += 1
        else:
            self.counts["status lines with another number of hydrated regions"] += 1
            if self.strict:
                raise ValueError(f"status: dm-clone {theirs[3]}, ours {ours[3]} regions")
        if theirs[:1] + theirs[2:3] + theirs[4:] != ours[:1] + ours[2:3] + ours[4:]:
            raise ValueError(f"status: dm-clone: {' '.join(theirs)}; ours: {' '.join(ours)}")


def models(options):
    if os.path.exists(options.models):
        with open(options.models, "rb") as file:
            return pickle.load(file)
    with open(options.origin, "rb") as file:
        origin = file.read()
    return (KernelModel(origin, options.region, options.passdown == "on"), CloneModel(origin, options.region),
            bytearray(len(origin) // SECTOR))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    for name in ("dm", "lun", "origin", "dm-dest", "lun-dest", "passdown", "clonectl", "models"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("region", "seed", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--strict", action="store_true", help="only requests after which nothing may differ")
    parser.add_argument("--drain", action="store_true", help="hydrate all of it in the end")
    options = parser.parse_args()
    state = models(options)
    kernel_model, clone_model, discarded = state
    kernel = DmClone(options.name, options.dm, options.dm_dest, kernel_model)
    ours = Lun(options.name, options.clonectl, options.lun, options.lun_dest, clone_model)
    stream = Stream(kernel, ours, discarded, options)
    step = 0
    try:
        stream.compare_bytes(0, stream.size)
        stream.compare_status()
        for step in range(1, options.steps + 1):
            stream.step()
        if options.drain:
            stream.drain()
        stream.compare_bytes(0, stream.size)
        if ours.status_of_clonectl() != ours.status():
            raise ValueError("clonectl status --dm is not what the daemon says")
    except (OSError, ValueError) as error:
        print(f"differential: seed {options.seed}, step {step}: {error}", file=sys.stderr)
        return 1
    with open(options.models, "wb") as file:
        pickle.dump(state, file)
    print(f"seed {options.seed}: {options.steps} steps: " +
          ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in stream.counts.items()))
    return 0


sys.exit(main())
