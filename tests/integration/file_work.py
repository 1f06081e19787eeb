#!/usr/bin/python3
"""Work on files as programs do that must not lose any: write, fsync, rename, fsync the folder, remove.

  file_work.py DIR SUMS --seed N --until FILE

Each file is written under another name, synced, renamed over its own, and its folder is synced; now and
then one is removed, or read back past the page cache and compared. Runs until FILE exists. SUMS gets the
sha256 sums of what must be there. Exit status: 0, or 1 with a sentence and the seed.
"""

import argparse
import hashlib
import mmap
import os
import random
import sys

LARGEST = 256 * 1024
MOST_FILES = 120


class Worker:
    def __init__(self, options):
        self.root = options.dir
        self.random = random.Random(options.seed)
        self.buffer = mmap.mmap(-1, LARGEST + 4096)  # O_DIRECT wants aligned memory.
        self.sums = {}
        self.counts = {"written": 0, "removed": 0, "read back": 0}
        for folder in "abcd":
            os.makedirs(os.path.join(self.root, folder), exist_ok=True)

    def step(self):
        action = self.random.choices((self.write, self.remove, self.read_back), (60, 10, 30))[0]
        if len(self.sums) > MOST_FILES:
            action = self.remove
        elif not self.sums:
            action = self.write
        action()

    def write(self):
        name = f"{self.random.choice('abcd')}/{self.random.randrange(2 * MOST_FILES)}"
        data = self.random.randbytes(self.random.choice((100, 5000, LARGEST)) - self.random.randrange(100))
        path = os.path.join(self.root, name)
        with open(path + ".new", "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(path + ".new", path)
        self.sync_folder(path)
        self.sums[name] = hashlib.sha256(data).hexdigest()
        self.counts["written"] += 1

    def remove(self):
        name = self.random.choice(sorted(self.sums))
        path = os.path.join(self.root, name)
        os.remove(path)
        self.sync_folder(path)
        del self.sums[name]
        self.counts["removed"] += 1

    def read_back(self):
        name = self.random.choice(sorted(self.sums))
        file = os.open(os.path.join(self.root, name), os.O_RDONLY | os.O_DIRECT)
        try:
            length = os.readv(file, [self.buffer])
        finally:
            os.close(file)
        if hashlib.sha256(self.buffer[:length]).hexdigest() != self.sums[name]:
            raise ValueError(f"{name} is not what was written")
        self.counts["read back"] += 1

    @staticmethod
    def sync_folder(path):
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dir")
    parser.add_argument("sums")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--until", required=True)
    options = parser.parse_args()
    worker = Worker(options)
    try:
        while not os.path.exists(options.until):
            worker.step()
    except (OSError, ValueError) as error:
        print(f"file_work: seed {options.seed}: {error}", file=sys.stderr)
        return 1
    with open(options.sums, "w", encoding="ascii") as sums:
        sums.writelines(f"{digest}  ./{name}\n" for name, digest in sorted(worker.sums.items()))
    print(", ".join(f"{count} files {what}" for what, count in worker.counts.items()))
    return 0


sys.exit(main())
