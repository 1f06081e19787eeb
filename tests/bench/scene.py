"""What a measurement needs around it: a scratch folder with the images, servers, the programs measured."""
import contextlib
import itertools
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
MIB = 1 << 20
BLOCK = 4096


class Failed(Exception):
    """A measurement that has no result, and why."""


def command(arguments, timeout=900, **more):
    """Runs it to its end; its standard output. Failed when it fails."""
    done = subprocess.run([str(word) for word in arguments], capture_output=True, text=True, timeout=timeout, **more)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, arguments))}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def seconds_of(arguments, **more):
    begin = time.monotonic()
    command(arguments, **more)
    return time.monotonic() - begin


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def server(arguments, is_up, **more):
    """A program of ours in the background, ended by its process id."""
    log = tempfile.TemporaryFile(mode="w+")
    process = subprocess.Popen([str(word) for word in arguments], stdout=log, stderr=log, **more)
    try:
        for _ in range(200):
            if is_up():
                break
            if process.poll() is not None:
                log.seek(0)
                raise Failed(f"{arguments[0]} ended at once: {log.read()[-2000:]}")
            time.sleep(0.05)
        else:
            raise Failed(f"{arguments[0]} is not up after 10 s")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


class Scene:
    """Folders: `disk` on a real file system (images, and destinations with O_DIRECT), `memory` on a tmpfs
    (destinations that are buffered at both ends, so that no disk's mood decides)."""

    def __init__(self, build, disk, memory, size):
        self.build = pathlib.Path(build)
        self.program = self.build / "tests/bench/clone_bench"
        if not self.program.exists():
            raise Failed(f"{self.program} is not built: cmake --build --preset release --target clone_bench delay_proxy")
        self.disk, self.size = pathlib.Path(disk), size
        self.disk.mkdir(parents=True, exist_ok=True)
        self.memory = pathlib.Path(tempfile.mkdtemp(prefix="clone-bench-", dir=memory))
        self.memory.chmod(0o755)  # nginx reads its configuration there.
        self.numbers = itertools.count()

    def close(self):
        shutil.rmtree(self.memory)

    # Images, made once; what they hold does not compress and has no zeroes.

    def image(self):
        path = self.disk / f"random-{self.size // MIB}m"
        if not path.exists():
            with open(str(path) + ".new", "wb") as file:
                for _ in range(self.size // MIB):
                    file.write(os.urandom(MIB))
            os.rename(str(path) + ".new", path)
        return path

    def half_sparse_image(self):
        """The same, but every second 16 MiB are a hole."""
        path = self.disk / f"half-{self.size // MIB}m"
        if not path.exists():
            with open(self.image(), "rb") as source, open(str(path) + ".new", "wb") as file:
                file.truncate(self.size)
                for at in range(0, self.size, 32 * MIB):
                    source.seek(at)
                    file.seek(at)
                    file.write(source.read(16 * MIB))
            os.rename(str(path) + ".new", path)
        return path

    @staticmethod
    def into_page_cache(path):
        with open(path, "rb", buffering=0) as file:
            buffer = bytearray(4 * MIB)
            while file.readinto(buffer):
                pass

    def touch_memory(self):
        """Takes as much memory as an arm will and gives it back. A virtual machine returns free pages to its host
        after 2 s (free page reporting of virtio-balloon), and to get one back costs more than to copy into it: without
        this the arm that comes after a pause pays for it, and the one that follows does not."""
        path = self.memory / "touched"
        with open(path, "wb", buffering=0) as file:
            zeroes = bytes(4 * MIB)
            for _ in range(self.size * 5 // 4 // len(zeroes)):
                file.write(zeroes)
        path.unlink()

    # Servers.

    def new_path(self, suffix, folder=None):
        return (folder or self.memory) / f"{next(self.numbers)}.{suffix}"

    @contextlib.contextmanager
    def nbdkit(self, words):
        """A read-only nbdkit with 64 threads: filters, plugin and parameters. The URI of its export."""
        path = self.new_path("sock")
        with server(["nbdkit", "-f", "-r", "-U", path, "-t", "64", *words], path.exists):
            yield f"nbd+unix:///?socket={path}"

    def nbd(self, image, delay_ms=0, filters=(), parameters=()):
        """An image in the page cache as NBD export; every read is answered `delay_ms` late, in parallel."""
        self.into_page_cache(image)
        delay = ["--filter=delay", "file", image, f"delay-read={delay_ms}ms"] if delay_ms else ["file", image]
        return self.nbdkit([*[f"--filter={name}" for name in filters], *delay, *parameters])

    @contextlib.contextmanager
    def http(self, image, delay_ms=0):
        """The same from nginx; what it sends arrives `delay_ms` late (native/delay_proxy.cc)."""
        self.into_page_cache(image)
        port, far_port = free_port(), free_port()
        configuration = self.new_path("nginx")
        temporary = "".join(f"{kind}_temp_path {self.memory}/nginx-{kind};\n"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        configuration.write_text(f"""daemon off; worker_processes 2; error_log stderr; pid {configuration}.pid;
events {{ worker_connections 1024; }}
http {{
{temporary}
access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
server {{ listen 127.0.0.1:{port}; root {image.parent}; }}
}}
""")
        with contextlib.ExitStack() as both:
            both.enter_context(server(["/usr/sbin/nginx", "-c", configuration, "-p", self.memory],
                                      lambda: answers(port)))
            if delay_ms:
                both.enter_context(server([self.build / "tests/bench/delay_proxy", far_port, port, delay_ms],
                                          lambda: answers(far_port)))
            yield f"http://127.0.0.1:{far_port if delay_ms else port}/{image.name}"

    # Ours.

    def clone(self, measurement, uri, *more, folder=None, size=None, settings=()):
        """A run of clone_bench: its result."""
        words = [self.program, measurement, "--origin", uri, "--folder", folder or self.memory,
                 "--size", size or self.size, *more]
        for setting in settings:
            words += ["--set", setting]
        return json.loads(command(words))

    def empty_file(self, folder=None):
        path = (folder or self.memory) / "copy"
        with open(path, "wb") as file:
            file.truncate(self.size)
        return path

    def check_copy(self, image, path):
        """The measurement counts only if what was made is the image."""
        command(["cmp", image, path])
        os.unlink(path)
