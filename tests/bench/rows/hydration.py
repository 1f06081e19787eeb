"""How fast a whole image is copied: ours beside the programs that do nothing else."""
import qemu
import ratio
import scene as scenes

NBDCOPY_MODES = {
    "nbdcopy": [],
    "nbdcopy -C1 -R64": ["-C", "1", "-R", "64"],
    "nbdcopy, 1M requests": ["--destination-is-zero", "--request-size=1048576"],
}
CONVERT = ["qemu-img", "convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw"]


def clone_arm(scene, uri, image, folder=None):
    """Seconds from open to complete and flushed. The first copy is compared with the image."""
    folder = folder or scene.memory
    checked = []

    def run():
        keep = [] if checked else ["--keep"]
        scene.touch_memory()
        seconds = scene.clone("hydrate", uri, *keep, folder=folder)["seconds"]
        if not checked:
            scene.check_copy(image, folder / "hydrated")
            checked.append(True)
        return seconds

    return run


def peer_arm(scene, arguments, folder=None):
    """Seconds of a program that is given the name of an empty sparse file last."""
    def run():
        scene.touch_memory()
        path = scene.empty_file(folder)
        try:
            return scenes.seconds_of([*arguments, path])
        finally:
            path.unlink()

    return run


def nbd(scene, rounds):
    """hydration over NBD : nbdcopy --flush and qemu-img convert -m 16, the best; 0, 10, 50 and 100 ms"""
    image = scene.image()
    for delay in (0, 10, 50, 100):
        with scene.nbd(image, delay) as uri:
            arms = {"ours": clone_arm(scene, uri, image)}
            for name, words in NBDCOPY_MODES.items():
                arms[name] = peer_arm(scene, ["nbdcopy", "--flush", *words, uri])
            arms["qemu-img convert"] = peer_arm(scene, [*CONVERT, uri])
            numbers = ratio.interleave(arms, rounds)
        ours = numbers.pop("ours")
        yield ratio.faster(f"hydration over NBD, {delay} ms", scene.size, ours, numbers, ">= 1.0")


def nbd_on_disk(scene, rounds):
    """the same onto a disk: O_DIRECT and a flush, as qemu-img -t none does; nbdcopy is buffered and syncs"""
    image = scene.image()
    for delay in (0, 10):
        with scene.nbd(image, delay) as uri:
            arms = {
                "ours": clone_arm(scene, uri, image, scene.disk),
                "qemu-img convert -t none": peer_arm(scene, [*CONVERT, "-t", "none", uri], scene.disk),
                "nbdcopy, buffered": peer_arm(scene, ["nbdcopy", "--flush", uri], scene.disk),
            }
            numbers = ratio.interleave(arms, rounds)
        ours = numbers.pop("ours")
        yield ratio.faster(f"hydration over NBD onto a disk, {delay} ms", scene.size, ours, numbers, ">= 1.0")


def http(scene, rounds):
    """hydration over HTTP (nginx) : curl -o, and nbdkit's curl plugin with nbdcopy; 0, 10 and 50 ms"""
    image = scene.image()
    for delay in (0, 10, 50):
        with scene.http(image, delay) as url, scene.nbdkit(["curl", url]) as uri:
            arms = {
                "ours": clone_arm(scene, url, image),
                "curl -o": peer_arm(scene, ["curl", "-s", "-S", "-f", url, "-o"]),
                "nbdkit curl + nbdcopy": peer_arm(scene, ["nbdcopy", "--flush", uri]),
                "nbdkit curl + nbdcopy -C16": peer_arm(scene, ["nbdcopy", "--flush", "-C", "16", uri]),
            }
            numbers = ratio.interleave(arms, rounds)
        ours = numbers.pop("ours")
        yield ratio.faster(f"hydration over HTTP, {delay} ms", scene.size, ours, numbers, ">= 1.0")


def block_stream(scene, rounds):
    """hydration : QEMU block-stream, both from NBD at 10 ms; QEMU's rate from its first 5 s"""
    image = scene.image()

    def stream():
        scene.touch_memory()
        with qemu.stream(scene, uri) as job:
            job.start()
            return scene.size / job.rate(5)

    with scene.nbd(image, 10) as uri:
        numbers = ratio.interleave({"ours": clone_arm(scene, uri, image), "QEMU block-stream": stream}, rounds)
    ours = numbers.pop("ours")
    yield ratio.faster("hydration at 10 ms : block-stream", scene.size, ours, numbers, ">= 20")


def half_sparse(scene, rounds):
    """hydration of an image whose every second 16 MiB are a hole : the same without holes; NBD, 0 and 10 ms"""
    for delay in (0, 10):
        with scene.nbd(scene.image(), delay) as full_uri, scene.nbd(scene.half_sparse_image(), delay) as half_uri:
            numbers = ratio.interleave({"half": clone_arm(scene, half_uri, scene.half_sparse_image()),
                                        "full": clone_arm(scene, full_uri, scene.image())}, rounds)
        yield ratio.faster(f"hydration of a half-sparse image, {delay} ms", scene.size, numbers["half"],
                           {"without holes": numbers["full"]}, ">= 1.8")


def memory(scene, rounds):
    """anonymous memory while hydrating at 100 ms : 64 MiB"""
    image = scene.image()
    with scene.nbd(image, 100) as uri:
        used = [scene.clone("hydrate", uri)["memory_bytes"] for _ in range(rounds)]
    bound = 64 * scenes.MIB
    yield ratio.Line("memory while hydrating at 100 ms", f"{max(used) / scenes.MIB:.0f} MiB at most", "64 MiB",
                     max(used) / bound, "<= 1.0", f"{ratio.spread(used):.0f} %")
