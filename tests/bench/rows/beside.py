"""What hydration costs those who use the LUN meanwhile."""
import json
import time

import qemu
import ratio
import scene as scenes

PRESENT = 64 * scenes.MIB


def pooled(run, key, field):
    return ratio.median([phase[field] for phase in run[key]])


def qemus_price(scene, uri):
    """p99 of the same reads of QEMU's export: (alone, while block-stream runs); bytes a second of the stream."""
    def p99(export):
        words = ["fio", "--name=x", "--ioengine=nbd", f"--uri={export}", "--rw=randread", "--bs=4k", "--iodepth=1",
                 f"--size={PRESENT}", "--time_based", "--runtime=1", "--norandommap", "--randrepeat=0", "--thread",
                 "--output-format=json"]
        text = scenes.command(words)
        return json.loads(text[text.index("{"):])["jobs"][0]["read"]["clat_ns"]["percentile"]["99.000000"] / 1e3

    with qemu.stream(scene, uri) as job:
        scenes.command(["qemu-io", "-f", "raw", "-c", f"write -P 90 0 {PRESENT}", job.export])
        alone = p99(job.export)
        job.start()
        begin = time.monotonic()
        busy = p99(job.export)
        done = job.done_bytes()
        return alone, busy, done / (time.monotonic() - begin)


def foreground(scene, rounds):
    """p99 of hydrated 4 KiB reads while hydrating : without; QEMU's beside it; NBD, 0 and 10 ms"""
    image = scene.image()
    for delay in (0, 10):
        with scene.nbd(image, delay) as uri:
            numbers = ratio.interleave({"ours": lambda: scene.clone("foreground", uri),
                                        "QEMU": lambda: qemus_price(scene, uri)}, rounds)
        runs = numbers["ours"]
        idle = [pooled(run, "idle", "p99") for run in runs]
        busy = [pooled(run, "hydrating", "p99") for run in runs]
        rate = ratio.median([ratio.median(run["rates"]) for run in runs])
        full = ratio.median([ratio.median(run["undisturbed_rates"]) for run in runs])
        price = ratio.median([during / alone for alone, during, _ in numbers["QEMU"]])
        qemus_rate = ratio.median([rate for _, _, rate in numbers["QEMU"]])
        yield ratio.Line(f"4 KiB p99 while hydrating : idle, {delay} ms",
                         f"{ratio.median(busy):.0f} : {ratio.median(idle):.0f} us, {rate / 1e9:.2f} GB/s meanwhile "
                         f"({100 * rate / full:.0f} % of undisturbed)",
                         f"QEMU {price:.2f} at {qemus_rate / 1e9:.2f} GB/s",
                         ratio.median([b / i for b, i in zip(busy, idle)]), "<= 1.2",
                         f"{ratio.spread(busy):.0f} % / {ratio.spread(idle):.0f} %")


def flush(scene, rounds):
    """FLUSH while hydrating onto a disk : fdatasync of a file that takes the same stream; NBD, 10 ms"""
    image = scene.image()
    with scene.nbd(image, 10) as uri:
        runs = [scene.clone("flushes", uri, folder=scene.disk) for _ in range(rounds)]
    ours = [pooled(run, "flush", "median") for run in runs]
    bare = [pooled(run, "fdatasync", "median") for run in runs]
    line = ratio.slower("FLUSH while hydrating, disk", ours, bare, "fdatasync", "<= 1.1")
    rate = ratio.median([ratio.median(run["rates"]) for run in runs]) / 1e9
    stream = ratio.median([ratio.median(run["stream_rates"]) for run in runs]) / 1e9
    line.ours += f" at {rate:.2f} GB/s"
    line.theirs += f" at {stream:.2f} GB/s"
    yield line
