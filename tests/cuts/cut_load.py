#!/usr/bin/python3
"""The guest's part of a power cut: judge what the last cut left of the LUN, then write until the next one.

  cut_load.py LUN STATE --seed N --round N [--no-load] [--write-through]

STATE is a folder outside the guest. In it
  base.R       what the LUN's areas held when round R began to write
  acks.R.T     the operations of round R's thread T that were acknowledged as durable, one number a line
  ready.R      appears when the LUN was judged and round R writes

What a round does follows from seed and round alone, so the judge can make the operations again. Each thread
owns one area and works in order. Sectors say which operation wrote them. Legal for a sector is: what
the last acknowledged flush or FUA promised, and everything written to it later; with no such promise
the base too. What lies outside all operations must be as in the base. --write-through: the LUN has no write
cache, so every acknowledgement is a promise. Exit status 1: illegal content.
"""

import argparse
import fcntl
import glob
import mmap
import os
import random
import struct
import sys
import threading

SECTOR = 512
BLOCK = 4096
MIB = 1 << 20
# Two of them straddle the 64 MiB which one page of the metadata covers.
AREAS = (0, 62 * MIB + MIB // 2, 100 * MIB, 126 * MIB + MIB // 2)
AREA = 3 * MIB
LARGEST = 256 * 1024
KINDS = ("write", "fua", "flush", "discard", "zero")
PROMISING = ("fua", "flush")  # What has a durable effect once it is acknowledged.
BLKDISCARD = 0x1277
BLKZEROOUT = 0x127F


def operations(seed, number, thread):
    """What thread does in a round, without end: (kind, first sector, sectors). At least every fiftieth
    operation is one whose acknowledgement promises something."""
    rng = random.Random(f"{seed}/{number}/{thread}")
    first = AREAS[thread] // SECTOR
    since_flush = 0
    while True:
        kind = rng.choices(KINDS, (60, 12, 14, 8, 6))[0]
        since_flush = 0 if kind in ("fua", "flush") else since_flush + 1
        if since_flush == 50:
            kind, since_flush = "flush", 0
        unit = 1 if kind in ("write", "fua", "zero") and rng.random() < 0.4 else BLOCK // SECTOR
        largest = rng.choice((unit, 4 * unit, LARGEST // SECTOR))
        length = rng.randrange(unit, largest + 1, unit)
        start = rng.randrange(0, AREA // SECTOR - length + 1, unit)
        yield kind, first + start, length


def content(number, thread, operation, sector):
    return struct.pack("<QQ", number << 40 | thread << 32 | operation, sector) * (SECTOR // 16)


class Lun:
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.buffer = mmap.mmap(-1, LARGEST)  # O_DIRECT wants aligned memory.

    def read(self, offset, length):
        parts = []
        for at in range(offset, offset + length, LARGEST):
            view = memoryview(self.buffer)[:min(LARGEST, offset + length - at)]
            if os.preadv(self.fd, [view], at) != len(view):
                raise OSError(f"short read at {at}")
            parts.append(bytes(view))
        return b"".join(parts)

    def write(self, data, offset, fua):
        self.buffer[:len(data)] = data
        flags = os.RWF_DSYNC if fua else 0
        if os.pwritev(self.fd, [memoryview(self.buffer)[:len(data)]], offset, flags) != len(data):
            raise OSError(f"short write at {offset}")

    def ask(self, request, offset, length):
        fcntl.ioctl(self.fd, request, struct.pack("QQ", offset, length))


# ---- judging ----

def acknowledged(state, number, thread):
    try:
        with open(f"{state}/acks.{number}.{thread}", encoding="ascii") as file:
            return {int(line) for line in file.read().split("\n")[:-1]}
    except FileNotFoundError:
        return set()


def legal_versions(options, number, thread):
    """sector -> the operations it may show, None for the base. A thread waits for what it asked, so
    nothing after the first promise that was not given has begun."""
    acks = acknowledged(options.state, number, thread)
    versions = {}
    for index, (kind, first, count) in enumerate(operations(options.seed, number, thread)):
        sectors = range(first, first + count) if kind != "flush" else ()
        if kind in options.promising and kind != "flush" and index in acks:
            versions.update((sector, [(index, kind)]) for sector in sectors)
        for sector in sectors:
            if (index, kind) != versions.setdefault(sector, [None])[-1]:
                versions[sector].append((index, kind))
        if kind == "flush" and index in acks:
            versions = {sector: found[-1:] for sector, found in versions.items()}
        if kind in options.promising and index not in acks:
            return versions


def judge_sector(found, base, number, thread, sector, allowed):
    for version in allowed:
        if version is None:
            wanted = base
        elif version[1] in ("discard", "zero"):
            wanted = bytes(SECTOR)
        else:
            wanted = content(number, thread, version[0], sector)
        if found == wanted:
            return
    names = [f"{kind[1]} {kind[0]}" if kind else "the base" for kind in allowed]
    raise ValueError(f"sector {sector} holds {found[:16].hex()}..., legal after round {number}: "
                     f"{', '.join(names)}")


def judge(options, thread, observed, bases):
    """Returns how many sectors were promised to survive."""
    number = max(bases)
    with open(bases[number], "rb") as file:
        file.seek(thread * AREA)
        base = file.read(AREA)
    versions = legal_versions(options, number, thread)
    first = AREAS[thread] // SECTOR
    for index in range(AREA // SECTOR):
        here = slice(index * SECTOR, (index + 1) * SECTOR)
        allowed = versions.get(first + index, [None])
        if allowed != [None] or observed[here] != base[here]:
            judge_sector(observed[here], base[here], number, thread, first + index, allowed)
    return sum(1 for found in versions.values() if found[0] is not None)


# ---- writing ----

def write_until_the_cut(options, thread):
    lun = Lun(options.lun)
    acks = os.open(f"{options.state}/acks.{options.round}.{thread}",
                   os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_DSYNC, 0o600)
    for index, (kind, first, count) in enumerate(operations(options.seed, options.round, thread)):
        offset, length = first * SECTOR, count * SECTOR
        if kind in ("write", "fua"):
            data = b"".join(content(options.round, thread, index, sector)
                            for sector in range(first, first + count))
            lun.write(data, offset, kind == "fua")
        elif kind == "flush":
            os.fsync(lun.fd)
        else:
            lun.ask(BLKDISCARD if kind == "discard" else BLKZEROOUT, offset, length)
        if kind in options.promising:
            os.write(acks, f"{index}\n".encode())


def write_or_die(options, thread):
    try:
        write_until_the_cut(options, thread)
    except OSError as error:
        print(f"FAILED: round {options.round}: thread {thread}: {error}", flush=True)
        os._exit(1)


def put(path, data):
    """All of it or nothing, whenever the guest dies."""
    with open(f"{path}.part", "wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    os.rename(f"{path}.part", path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lun")
    parser.add_argument("state")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--round", type=int, required=True)
    parser.add_argument("--no-load", action="store_true")
    parser.add_argument("--write-through", action="store_true")
    options = parser.parse_args()
    options.promising = KINDS if options.write_through else PROMISING
    bases = {int(path.rsplit(".", 1)[1]): path
             for path in glob.glob(f"{glob.escape(options.state)}/base.*[0-9]")}
    lun = Lun(options.lun)
    observed = [lun.read(area, AREA) for area in AREAS]
    try:
        promised = sum(judge(options, thread, observed[thread], bases)
                       for thread in range(len(AREAS)))
    except ValueError as error:
        print(f"FAILED: round {options.round}: {error}", flush=True)
        return 1
    put(f"{options.state}/base.{options.round}", b"".join(observed))
    put(f"{options.state}/ready.{options.round}", f"{promised}\n".encode())
    if options.no_load:
        return 0
    threads = [threading.Thread(target=write_or_die, args=(options, thread))
               for thread in range(len(AREAS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


sys.exit(main())
