"""The host's side of volatile_disk.c: what a disk keeps of the writes that were not flushed."""

import collections
import os
import struct

SECTOR = 512
HEAD = struct.Struct("<QQ")


def records(undo):
    """(offset, the bytes that a write replaced), in the order of the writes."""
    with open(undo, "rb") as file:
        log = file.read()
    at = 0
    while at + HEAD.size <= len(log):
        offset, length = HEAD.unpack_from(log, at)
        at += HEAD.size
        if at + length > len(log):
            return  # The guest died while it recorded: the write itself was never made.
        yield offset, log[at:at + length]
        at += length


def lose(path, rng):
    """Take back unflushed writes of the disk, whose guest is dead. Each sector that was written since the
    last flush ends as one of the versions it had: the durable one, one between, or the last, chosen by
    rng with odds that differ from cut to cut. Returns (sectors unflushed, sectors taken back)."""
    undo = path + ".undo"
    versions = collections.defaultdict(list)
    for offset, old in records(undo):
        for begin in range(0, len(old), SECTOR):
            versions[offset + begin].append(old[begin:begin + SECTOR])
    keep = rng.choice((0, 0, 0.05, 0.5, 0.95, rng.random()))
    oldest = rng.random() < 0.5
    lost = 0
    with open(path, "r+b") as disk:
        for offset, olds in sorted(versions.items()):
            if rng.random() < keep:
                continue
            disk.seek(offset)
            disk.write(olds[0] if oldest else rng.choice(olds))
            lost += 1
    os.truncate(undo, 0)
    return len(versions), lost
