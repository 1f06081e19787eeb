#!/usr/bin/python3
"""Tell many LUNs apart: "NAME DEVICE" lines on stdin, the model of each is DIR/NAME.model.

  many_luns.py name DIR LOADED    write each one's name into its second block, and into the model
  many_luns.py check DIR LOADED   each shows its model, or its name if it is one of LOADED

All of it past the page cache. Exit status: 0, or 1 with the names of those that show something else.
"""

import mmap
import os
import sys

BLOCK = 4096


def write_name(name, device, model):
    buffer = mmap.mmap(-1, BLOCK)  # O_DIRECT wants aligned memory.
    buffer.write(name.encode())
    os.pwritev(device, [buffer], BLOCK)
    os.pwrite(model, buffer[:], BLOCK)
    return True


def shows_its_own(model_counts, device, model):
    first, length = (0, os.fstat(model).st_size) if model_counts else (BLOCK, BLOCK)
    buffer = mmap.mmap(-1, length)
    return os.preadv(device, [buffer], first) == length and buffer[:] == os.pread(model, length, first)


def main():
    command, folder, loaded = sys.argv[1], sys.argv[2], sys.argv[3].split()
    wrong = []
    for name, path in map(str.split, sys.stdin):
        device = os.open(path, os.O_RDWR | os.O_DIRECT)
        model = os.open(f"{folder}/{name}.model", os.O_RDWR)
        if command == "name":
            right = write_name(name, device, model)
        else:
            right = shows_its_own(name not in loaded, device, model)
        os.close(device)
        os.close(model)
        if not right:
            wrong.append(name)
    if wrong:
        print("not their own data:", " ".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


sys.exit(main())
