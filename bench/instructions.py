#!/usr/bin/env python3
"""What a short connection costs `lb` in user space, and what of that only exists for metrics (docs/PERFORMANCE.md).

    instructions.py calls LB BACKEND    user instructions for a connection, with callgrind: all, and those of metrics
    instructions.py time LB BACKEND     CPU time for a connection without callgrind, and the share of user space in it

LB and BACKEND are the programs, optimised and with line tables. Connections come one after the other. The difference of two numbers of
connections leaves the start out. An instruction is one of metrics if the function that it was inlined from, at any depth, is.
"""

import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter

FEW, MANY = 1000, 4000
# Counters and histograms; the looks at the clock that they need.
COUNTING = re.compile(r"lb/src/metrics/|lb/src/replica/counters\.rs")
CLOCK = re.compile(r"lb/src/data/outcome\.rs"), re.compile(r"since|first_line|connect|total|time|knows|reaches")


def connect(address):
    with socket.create_connection(address) as client:
        client.sendall(b"132574\n")
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(100), b""))
        assert answer, "no answer"


class Served:
    """An `lb` with one worker and one replica, below another program."""

    def __init__(self, lb, backend, below=()):
        self.backend = subprocess.Popen([backend, "--listen", "127.0.0.1:15321"], stderr=subprocess.DEVNULL)
        flags = "serve --listen 127.0.0.1:0 --control 127.0.0.1:0 --workers 1 --health-interval 1h"
        fixed = "--provider fixed --backend a=127.0.0.1:15321"
        command = [*below, lb, *flags.split(), *fixed.split()]
        self.lb = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        ready = (re.search(r"ready data=([\d.]+):(\d+)", line) for line in self.lb.stderr)
        host, port = next(filter(None, ready)).groups()
        self.address = host, int(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lb.send_signal(signal.SIGTERM)
        self.lb.stderr.read()
        self.lb.wait()
        self.backend.kill()
        self.backend.wait()

    def ticks(self):
        with open(f"/proc/{self.lb.pid}/stat") as stat:
            return [int(field) for field in stat.read().rsplit(") ")[1].split()[11:13]]


def read(path):
    """What each instruction costs itself, and what it costs with what it calls; by object and address."""
    own, called, names, place, is_call = Counter(), Counter(), {}, None, False
    for line in open(path):
        if match := re.match(r"(c?)ob=\((\d+)\)(?: (.*))?", line):
            names.setdefault(match[2], match[3])
            place = place if match[1] else names[match[2]]
        elif line.startswith("calls="):
            is_call = True
        elif line.startswith("0x"):
            parts = line.split()
            (called if is_call else own)[place, int(parts[0], 16)] += int(parts[-1])
            is_call = False
    return own, called


def kinds(lb, addresses):
    """Which of these addresses belong to counting, and which to its looks at the clock."""
    asked = subprocess.run(
        ["addr2line", "-e", lb, "-a", "-i", "-f", "-C"], input="\n".join(map(hex, addresses)), capture_output=True, text=True
    )
    kinds = {}
    for block in re.split(r"^(?=0x)", asked.stdout, flags=re.M)[1:]:
        address, *frames = block.splitlines()
        frames = list(zip(frames[::2], frames[1::2]))
        if any(COUNTING.search(file) for _, file in frames):
            kinds[int(address, 16)] = "counting"
        elif any(CLOCK[0].search(file) and CLOCK[1].search(function) for function, file in frames):
            kinds[int(address, 16)] = "clock"
    return kinds


def calls(lb, backend):
    with tempfile.TemporaryDirectory() as folder:
        for number in (FEW, MANY):
            out = f"--callgrind-out-file={folder}/{number}"
            how = ["--dump-instr=yes", "--compress-pos=no"]
            # The others are faster, so that `lb` nearly always finds what it waits for.
            with Served(lb, backend, ["nice", "-n", "19", "valgrind", "-q", "--tool=callgrind", out, *how]) as served:
                for _ in range(number):
                    connect(served.address)
        few, many = read(f"{folder}/{FEW}"), read(f"{folder}/{MANY}")
    program = lb.split("/")[-1]
    ours = {address for kind in many for name, address in kind if name and name.split("/")[-1] == program}
    kind_of, found = kinds(lb, sorted(ours)), Counter()
    for what in (0, 1):
        for (name, address), cost in many[what].items():
            more = (cost - few[what][name, address]) / (MANY - FEW)
            found["all"] += more if what == 0 else 0
            kind = kind_of.get(address) if name and name.split("/")[-1] == program else None
            found[kind] += more if kind else 0
    of_metrics = found["counting"] + found["clock"]
    print(f"{found['all']:.0f} user instructions for a connection; of these {found['counting']:.0f} count,", end=" ")
    print(f"{found['clock']:.0f} look at the clock for it: {100 * of_metrics / found['all']:.1f} %")


def time(lb, backend, number=10_000):
    with Served(lb, backend) as served:
        before = served.ticks()
        for _ in range(number):
            connect(served.address)
        user, system = (after - before for after, before in zip(served.ticks(), before))
    print(f"{(user + system) * 1e4 / number:.0f} µs for a connection; {100 * user / (user + system):.0f} % in user space")


{"calls": calls, "time": time}[sys.argv[1]](*sys.argv[2:])
