"""Reads of what only the origin has."""
import re

import qemu
import ratio
import scene as scenes


def one_at_a_time(scene, rounds):
    """4 KiB absent read, one at a time : the same read of the bare NBD server, in turns; 10 and 50 ms"""
    image = scene.image()
    for delay, count in ((10, 100), (50, 40)):
        with scene.nbd(image, delay) as uri:
            runs = [scene.clone("absent-reads", uri, "--count", count) for _ in range(rounds)]
        ours = [run["absent"]["median"] for run in runs]
        bare = [run["bare"]["median"] for run in runs]
        yield ratio.slower(f"4 KiB absent read, {delay} ms", ours, bare, "bare origin", "<= 1.03")


def many(scene, rounds):
    """4 KiB absent reads, 32 in flight at 10 ms : qcow2 with the same backing file in qemu-img bench"""
    image = scene.image()
    depth = 32
    with scene.nbd(image, 10) as uri:
        arms = {"ours": lambda: scene.clone("many-reads", uri, "--count", 6400, "--depth", depth)["iops"]}
        for way in qemu.WAYS:
            arms[f"qcow2, {way}"] = lambda way=way: qemu.bench_new_overlay(scene, uri, 2400, depth, way)
        numbers = ratio.interleave(arms, rounds)
    ours = numbers.pop("ours")
    yield ratio.more_often("4 KiB absent reads, 32 in flight, 10 ms", ours, numbers, ">= 2.0")


def log_entries(path):
    """(offset, length) of each read that nbdkit's log filter saw."""
    pattern = re.compile(r"\bRead .*offset=(0x[0-9a-f]+|\d+) count=(0x[0-9a-f]+|\d+)")
    with open(path) as file:
        for line in file:
            if found := pattern.search(line):
                yield int(found[1], 0), int(found[2], 0)


def equal_misses(scene, rounds):
    """8 equal misses at 10 ms : reads of that block that the server saw"""
    image, blocks = scene.image(), 20
    worst = []
    for _ in range(rounds):
        log = scene.new_path("log")
        with scene.nbd(image, 10, filters=["log"], parameters=[f"logfile={log}"]) as uri:
            asked = scene.clone("equal-misses", uri, "--count", blocks, "--readers", 8)
        reads = list(log_entries(log))
        log.unlink()
        seen = [sum(at < offset + asked["length"] and offset < at + length for at, length in reads)
                for offset in asked["offsets"]]
        if min(seen) == 0:
            raise scenes.Failed("the server's log does not show the reads")
        worst.append(max(seen))
    yield ratio.Line("8 equal misses : origin reads", f"{max(worst)} at most, of {rounds * blocks} blocks", "1",
                     max(worst), "= 1")
