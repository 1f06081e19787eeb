"""Writes to what only the origin has."""
import contextlib

import qemu
import ratio
import scene as scenes

DELAYS = (0, 10, 50, 100)


def beside_each_other(scene, uris, turn, folder):
    """The clones take turns in one process; which is the first changes from round to round, as places differ."""
    first = turn % len(uris)
    order = [*uris[first:], *uris[:first]]
    found = scene.clone("absent-writes", order[0], "--count", 1000, "--allocated", "--more-origins", *order[1:],
                        folder=folder, size=128 * scenes.MIB)
    return [found[order.index(uri)] for uri in uris]


def absent(scene, rounds):
    """4 KiB write to an absent block : the same to a hydrated one, in turns; 0, 10, 50 and 100 ms"""
    image = scene.image()
    for folder, where in ((scene.memory, "tmpfs"), (scene.disk, "disk, O_DIRECT")):
        with contextlib.ExitStack() as servers:
            uris = [servers.enter_context(scene.nbd(image, delay)) for delay in DELAYS]
            runs = [beside_each_other(scene, uris, turn, folder) for turn in range(rounds)]
        absents = [[run[i]["absent"]["median"] for run in runs] for i in range(len(DELAYS))]
        presents = [[run[i]["present"]["median"] for run in runs] for i in range(len(DELAYS))]
        for delay, ours, hydrated in zip(DELAYS, absents, presents):
            yield ratio.slower(f"4 KiB absent write, {delay} ms, {where}", ours, hydrated, "hydrated", "<= 1.2")
        yield ratio.slower(f"4 KiB absent write, slope, {where}", absents[-1], absents[0], "0 ms away", "<= 1.1")


def beside_qcow2(scene, rounds):
    """4 KiB write to an absent block, one at a time : qcow2 with extended_l2 in qemu-img bench; 0 and 10 ms"""
    image, count = scene.image(), min(30000, scene.size // 65536)  # Each cluster once.
    for folder, cache, where, allocated in (
            (scene.disk, "none", "disk, allocated", True), (scene.disk, "none", "disk, sparse", False),
            (scene.memory, "writeback", "tmpfs", False)):
        options = ["extended_l2=on", *(["preallocation=full"] if allocated else [])]
        flags = ["--allocated"] if allocated else []
        ways = qemu.DIRECT_WAYS if cache == "none" else qemu.WAYS
        for delay in (0, 10):
            with scene.nbd(image, delay) as uri:
                def ours():
                    return scene.clone("many-writes", uri, "--count", count, "--depth", 1, *flags, folder=folder)["iops"]

                def theirs(way):
                    return qemu.bench_new_overlay(scene, uri, count, 1, way, write=True, options=options,
                                                  folder=folder, cache=cache)

                arms = {"ours": ours} | {f"extended_l2, {way}": lambda way=way: theirs(way) for way in ways}
                numbers = ratio.interleave(arms, rounds)
            ours = numbers.pop("ours")
            yield ratio.more_often(f"4 KiB absent writes : qcow2, {delay} ms, {where}", ours, numbers, ">= 1.0")
