#!/usr/bin/python3
"""Files whose fate is known, for a disk whose writes are logged by dm-log-writes.

  log_files.py work DIR JOURNAL --seed N --mark DEVICE --seconds N
  log_files.py judge DIR JOURNAL MARK

`work` creates, overwrites, extends, renames and removes files in DIR with fsync where a program would.
Now and then, all of them synced, it puts a mark into DEVICE's log, and a line into JOURNAL, outside: the mark
and what has to be there from now on. `judge` looks at a DIR whose disk was replayed to MARK or to anywhere
between it and the next: exit status 1 and a sentence for the first file that is not as it was promised.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import time

RECORD = 64


def record(seed, number):
    return hashlib.sha256(f"{seed}/{number}".encode()).hexdigest().encode()


def sync_folder(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


class Worker:
    """Three kinds of promise: files that stay (kept), the newest version of a file that is replaced by
    rename (current), and a file that only grows (ledger)."""

    def __init__(self, folder, seed):
        self.folder, self.seed = folder, seed
        self.rng = random.Random(f"log/{seed}")
        self.kept, self.doomed = {}, []
        self.current = self.records = self.made = 0
        self.ledger = os.open(self.path("ledger"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write_file(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def create(self):
        name = f"file{self.made}"
        self.made += 1
        data = self.rng.randbytes(self.rng.choice((100, 4096, 70_000, 500_000)))
        if self.rng.random() < 0.5:
            self.write_file(name + ".part", data)
            os.rename(self.path(name + ".part"), self.path(name))
        else:
            self.write_file(name, data)
        self.kept[name] = hashlib.sha256(data).hexdigest()

    def replace(self):
        self.write_file("next", str(self.current + 1).encode())
        os.rename(self.path("next"), self.path("current"))
        self.current += 1

    def append(self):
        for _ in range(self.rng.randrange(1, 100)):
            os.write(self.ledger, record(self.seed, self.records))
            self.records += 1
        os.fdatasync(self.ledger)

    def remove(self):
        if self.doomed:
            os.unlink(self.path(self.doomed.pop()))

    def promise(self, mark):
        """What is removed before the next mark is not promised by this one."""
        sync_folder(self.folder)
        while len(self.doomed) < 3 and len(self.kept) > 4:
            name = self.rng.choice(sorted(self.kept))
            del self.kept[name]
            self.doomed.append(name)
        return {"mark": mark, "seed": self.seed, "kept": dict(self.kept), "current": self.current,
                "records": self.records}


def work(options):
    worker = Worker(options.folder, options.seed)
    end = time.monotonic() + options.seconds
    number = 0
    while time.monotonic() < end:
        for _ in range(worker.rng.randrange(4, 12)):
            worker.rng.choice((worker.create, worker.replace, worker.append, worker.remove))()
        number += 1
        promise = worker.promise(f"m{number}")
        with open(options.journal, "a", encoding="ascii") as journal:
            journal.write(json.dumps(promise) + "\n")
        subprocess.run(["dmsetup", "message", options.mark, "0", "mark", f"m{number}"], check=True)
    print(f"{number} marks, {worker.made} files, {worker.records} records, seed {options.seed}")


def read(path):
    with open(path, "rb") as file:
        return file.read()


def differs(folder, promise):
    for name, digest in promise["kept"].items():
        try:
            data = read(os.path.join(folder, name))
        except FileNotFoundError:
            return f"{name} is missing"
        if hashlib.sha256(data).hexdigest() != digest:
            return f"{name} is not what was written and synced"
    if promise["current"] and int(read(os.path.join(folder, "current"))) < promise["current"]:
        return f"current is older than version {promise['current']}"
    ledger = read(os.path.join(folder, "ledger")) if promise["records"] else b""
    if len(ledger) < promise["records"] * RECORD:
        return f"the ledger has {len(ledger) // RECORD} of {promise['records']} records"
    for number in range(promise["records"]):
        if ledger[number * RECORD:(number + 1) * RECORD] != record(promise["seed"], number):
            return f"record {number} of the ledger is not what was written and synced"
    return None


def judge(options):
    with open(options.journal, encoding="ascii") as journal:
        promises = {promise["mark"]: promise for promise in map(json.loads, journal)}
    trouble = differs(options.folder, promises[options.mark])
    if trouble:
        sys.exit(f"after {options.mark}: {trouble}")


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    worker = commands.add_parser("work")
    worker.add_argument("folder")
    worker.add_argument("journal")
    worker.add_argument("--seed", type=int, required=True)
    worker.add_argument("--mark", required=True)
    worker.add_argument("--seconds", type=float, required=True)
    worker.set_defaults(run=work)
    judge_ = commands.add_parser("judge")
    judge_.add_argument("folder")
    judge_.add_argument("journal")
    judge_.add_argument("mark")
    judge_.set_defaults(run=judge)
    options = parser.parse_args()
    options.run(options)


main()
