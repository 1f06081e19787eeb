"""QEMU as the competition: qcow2 over a remote backing file, and block-stream."""
import contextlib
import json
import re
import socket
import time

import scene as scenes

# How qemu-img may do the overlay's I/O; the best one counts. "native" needs O_DIRECT.
WAYS = ("threads", "io_uring")
DIRECT_WAYS = (*WAYS, "native")


def overlay(scene, backing, *options, folder=None):
    """An empty qcow2 file over `backing`."""
    path = scene.new_path("qcow2", folder)
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", "raw",
             "-o", ",".join(["cluster_size=64k", *options]), path, str(scene.size)]
    scenes.command(words)
    return path


def bench(path, count, depth, way, write=False, cache="writeback"):
    """Operations a second of 4 KiB, one in each cluster."""
    words = ["qemu-img", "bench", "-c", count, "-d", depth, "-s", 4096, "-S", 65536, "-t", cache,
             "-i", way, "-f", "qcow2", *(["-w"] if write else []), path]
    text = scenes.command(words)
    return count / float(re.search(r"completed in ([\d.]+) seconds", text).group(1))


def bench_new_overlay(scene, backing, count, depth, way, write=False, options=(), folder=None, cache="writeback"):
    path = overlay(scene, backing, *options, folder=folder)
    try:
        return bench(path, count, depth, way, write, cache)
    finally:
        path.unlink()


class Monitor:
    """QMP, one command at a time."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.stream = self.socket.makefile("rw")
        self.stream.readline()
        self.ask("qmp_capabilities")

    def ask(self, word, **arguments):
        self.stream.write(json.dumps({"execute": word, "arguments": arguments}) + "\n")
        self.stream.flush()
        while True:
            reply = json.loads(self.stream.readline())
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise scenes.Failed(f"QEMU: {word}: {reply['error']['desc']}")

    def close(self):
        self.stream.close()
        self.socket.close()


class Stream:
    """A running qemu-storage-daemon with an overlay over an NBD server: its block-stream job, and its export."""

    def __init__(self, monitor, export, size):
        self.monitor, self.export, self.size = monitor, export, size

    def start(self):
        self.monitor.ask("block-stream", device="overlay", **{"job-id": "stream", "auto-dismiss": False})

    def done_bytes(self):
        job = self.monitor.ask("query-jobs")[0]
        return self.size if job["status"] in ("concluded", "pending") else job["current-progress"]

    def rate(self, cap):
        """Bytes a second from here to the end, or during `cap` seconds."""
        begin, before = time.monotonic(), self.done_bytes()
        while self.done_bytes() < self.size and time.monotonic() - begin < cap:
            time.sleep(0.005)
        return (self.done_bytes() - before) / (time.monotonic() - begin)


@contextlib.contextmanager
def stream(scene, nbd_uri):
    socket_path = nbd_uri.partition("socket=")[2]
    path, control, export = scene.new_path("qcow2"), scene.new_path("qmp"), scene.new_path("sock")
    scenes.command(["qemu-img", "create", "-q", "-f", "qcow2", path, str(scene.size)])
    origin = {"driver": "nbd", "server": {"type": "unix", "path": socket_path}, "read-only": True,
              "node-name": "origin"}
    top = {"driver": "qcow2", "node-name": "overlay", "backing": "origin",
           "file": {"driver": "file", "filename": str(path), "aio": "io_uring"}}
    words = ["qemu-storage-daemon", "--chardev", f"socket,path={control},server=on,wait=off,id=c",
             "--monitor", "chardev=c", "--blockdev", json.dumps(origin), "--blockdev", json.dumps(top),
             "--nbd-server", f"addr.type=unix,addr.path={export}",
             "--export", "type=nbd,id=e,node-name=overlay,name=e,writable=on"]
    try:
        with scenes.server(words, export.exists), contextlib.closing(Monitor(control)) as monitor:
            yield Stream(monitor, f"nbd+unix:///e?socket={export}", scene.size)
    finally:
        path.unlink()
