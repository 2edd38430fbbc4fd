#!/usr/bin/env python3
"""Plays the scenarios `drill` and `node` of `lb simulate cluster` on a real Docker Swarm, and prints the same figures.

    docs/simulate/fixture.py LB BACKEND

LB is a program `lb`, BACKEND a static `backend` (.docker/prebuild backend). It needs root and what lb/tests/it/swarm/nodes.sh needs, and
takes two minutes. Three nodes, all of them managers, each with an `lb`; six replicas; to each `lb` come 4 connections a second that last
10 s on the average. Ten tasks are killed, each followed by a command; then the third node crashes, with its `lb`.

Calls to the engine are counted on a Unix socket between `lb` and the engine. Everything else is read from the logs of the `lb`s.
"""

import asyncio
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import datetime

NODES = pathlib.Path(__file__).resolve().parents[2] / "lb/tests/it/swarm/nodes.sh"
SLOTS = [f"server{at}" for at in range(1, 7)]
RATE = 4.0  # new connections a second at each lb
SESSION = 10.0  # their mean length, in seconds
PATIENCE = 60.0  # for everything that is waited for, in seconds
DATA = 5100


# The clients of one lb: this program once more, in the network namespace of that lb.


async def session(count):
    count["begun"] += 1
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", DATA), 10)
        writer.write(b"%d\n" % random.randrange(100_000, 1_000_000))
        if not await asyncio.wait_for(reader.readline(), 10):
            raise OSError("no answer")
    except (OSError, asyncio.TimeoutError):
        count["failed"] += 1
        return
    try:
        await asyncio.wait_for(reader.read(1), random.expovariate(1 / SESSION))
    except (OSError, asyncio.TimeoutError):
        pass
    writer.close()


async def clients():
    count = {"begun": 0, "failed": 0}
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    while not over.is_set():
        asyncio.create_task(session(count))
        try:
            await asyncio.wait_for(over.wait(), random.expovariate(RATE))
        except asyncio.TimeoutError:
            pass
    print(json.dumps(count))


# Counting calls.


class Counter:
    """A Unix socket that hands everything on to the engine, and notes the time of each request."""

    REQUEST = re.compile(rb"^(?:GET|POST|DELETE|HEAD) \S+ HTTP/1\.1\r$", re.MULTILINE)

    def __init__(self, path, engine):
        self.path, self.engine, self.times = path, engine, []

    async def start(self):
        await asyncio.start_unix_server(self.serve, self.path)

    async def serve(self, reader, writer):
        try:
            engine_reader, engine_writer = await asyncio.open_unix_connection(self.engine)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(self.pump(reader, engine_writer, True), self.pump(engine_reader, writer, False))
        except asyncio.CancelledError:
            pass  # The measurement is over.

    async def pump(self, reader, writer, is_request):
        try:
            while data := await reader.read(1 << 16):
                if is_request:
                    self.times += [time.time()] * len(self.REQUEST.findall(data))
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    def rate(self, begin, end):
        return sum(begin <= at < end for at in self.times) / (end - begin)


# The fixture.


class Fixture:
    def __init__(self, lb, backend):
        self.lb, self.backend = lb, backend
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="lb-fixture-"))
        self.environment = {
            "SW_DIR": str(self.home / "swarm"), "SW_PREFIX": "sm", "SW_LAN": "10.97.0", "SW_POOL": "10.98.0.0/16",
            "SW_MANAGERS": "3", **os.environ,
        }
        self.counters, self.processes = {}, []

    def nodes(self, *arguments):
        command = ["bash", str(NODES), *map(str, arguments)]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout.strip()

    def enter(self, node, *command, **options):
        command = ["bash", str(NODES), "enter", str(node), "holder", *command]
        process = subprocess.Popen(command, env={**self.environment, **options.pop("env", {})}, **options)
        self.processes.append(process)
        return process

    async def up(self):
        self.nodes("up")
        self.nodes("image", "backend", self.backend)
        pool = self.environment["SW_POOL"].rsplit(".", 2)[0]
        self.nodes("docker", 1, "network", "create", "-d", "overlay", "--attachable", "--subnet", f"{pool}.16.0/20", "fleet")
        for node in (1, 2, 3):
            self.nodes("docker", node, "run", "-d", "--name", "holder", "--network", "fleet", "backend")
            engine = f"{self.environment['SW_DIR']}/{node}/docker.sock"
            self.counters[node] = Counter(str(self.home / f"engine{node}"), engine)
            await self.counters[node].start()
        for node in (1, 2, 3):
            flags = f"--provider swarm --fleet f --image backend --network fleet --replicas {len(SLOTS)} --log-format json"
            flags += f" --listen 0.0.0.0:{DATA} --control unix:{self.home}/control{node}"
            host = {"DOCKER_HOST": f"unix://{self.home}/engine{node}"}
            with open(self.log(node), "w") as log:
                self.enter(node, self.lb, "serve", *flags.split(), env=host, stdout=log, stderr=log)
        for node in (1, 2, 3):
            await self.wait_for(f"lb {node} is ready", lambda: self.all_up(node))

    def down(self):
        for process in self.processes:
            process.kill()
        self.nodes("down")
        shutil.rmtree(self.home, ignore_errors=True)

    def log(self, node):
        return self.home / f"lb{node}.log"

    async def wait_for(self, what, holds):
        end = time.time() + PATIENCE
        while not await asyncio.to_thread(holds):
            if time.time() > end:
                raise SystemExit(f"not within {PATIENCE} s: {what}")
            await asyncio.sleep(0.05)

    def command(self, node, method, path, body=None):
        """Returns the answer, and how long it took."""
        connection = http.client.HTTPConnection("lb", timeout=PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(PATIENCE)
        begun = time.time()
        connection.sock.connect(f"{self.home}/control{node}")
        connection.request(method, path, body and json.dumps(body))
        answer = json.loads(connection.getresponse().read())
        return answer, time.time() - begun

    def all_up(self, node):
        try:
            backends = self.command(node, "GET", "/backends")[0]["message"]["backends"]
        except (OSError, ValueError):
            return False
        return len(backends) >= len(SLOTS) - 1 and all(backend["state"] == "up" for backend in backends)

    def tasks(self):
        """The nodes and ids of the running tasks, by slot."""
        found = {}
        for slot in self.slots(1):
            listed = self.nodes("docker", 1, "service", "ps", f"f-{slot}", "--no-trunc", "--filter", "desired-state=running",
                                "--format", "{{.Node}} {{.ID}} {{.CurrentState}}")
            for line in listed.splitlines():
                node, task, state = line.split(" ", 2)
                if state.startswith("Running"):
                    found[slot] = (int(node[-1]), task)
        return found

    def slots(self, node):
        return [backend["name"] for backend in self.command(node, "GET", "/backends")[0]["message"]["backends"]]

    def kill(self, slot, node, task):
        pid = int(self.nodes("pid", node, f"f-{slot}.1.{task}"))
        os.kill(pid, signal.SIGKILL)
        return time.time()

    def changes(self, node):
        """What the log of an lb says of slots: time, slot, state."""
        for line in self.log(node).read_text().splitlines():
            entry = json.loads(line)
            found = re.match(r"replica (\w+)$", entry["fields"].get("message", ""))
            if found and "slot" in entry["fields"]:
                at = datetime.fromisoformat(entry["timestamp"].replace("Z", "+00:00")).timestamp()
                yield at, entry["fields"]["slot"], found[1]


def since(changes, slot, begun, wanted):
    """How long after `begun` the slot was first in one of these states."""
    return next((at - begun for at, name, state in changes if name == slot and at >= begun and state in wanted), None)


def ms(times):
    times = sorted(time for time in times if time is not None)
    if not times:
        return "-"
    return f"{1e3 * times[len(times) // 2]:.1f} ms (most {1e3 * times[-1]:.1f} ms, n = {len(times)})"


async def play(fixture):
    await fixture.up()
    streams = {
        node: fixture.enter(node, sys.executable, __file__, "--clients", stdout=subprocess.PIPE, text=True) for node in (1, 2, 3)
    }
    await asyncio.sleep(2 * SESSION)
    rest = time.time()
    await asyncio.sleep(20)
    print("calls of one lb a second, at rest:", [round(counter.rate(rest, time.time()), 2) for counter in fixture.counters.values()])

    kills, writes, adds, spreads, begun = [], [], [], [], time.time()
    for at in range(10):
        tasks = await asyncio.to_thread(fixture.tasks)
        slot = random.choice(sorted(tasks))
        kills.append((slot, await asyncio.to_thread(fixture.kill, slot, *tasks[slot])))
        await asyncio.sleep(3)
        node, slots = random.choice((1, 2, 3)), fixture.slots(1)
        asked = time.time()
        if at % 3 == 0:
            slot = random.choice(slots)
            _, took = await asyncio.to_thread(fixture.command, node, "DELETE", "/rm", {"n": 1, "hostnames": [slot]})
            writes.append(took)
            spreads.append((slot, asked, ("draining",)))
        elif at % 3 == 1:
            slot = f"added{at}"
            _, took = await asyncio.to_thread(fixture.command, node, "POST", "/add", {"n": 1, "hostnames": [slot]})
            adds.append(took)
        else:
            weights = {"weights": {random.choice(slots): 2}}
            _, took = await asyncio.to_thread(fixture.command, node, "PUT", "/mapping", weights)
            writes.append(took)
        await asyncio.sleep(3)
    print("calls of one lb a second, in the drill:", [round(c.rate(begun, time.time()), 1) for c in fixture.counters.values()])

    for node in (1, 2, 3):
        await fixture.wait_for(f"all is up at lb {node}", lambda: fixture.all_up(node))
    changes = {node: list(fixture.changes(node)) for node in (1, 2, 3)}
    lost = ("starting", "down")
    print("a killed task is seen by an lb after:", ms(since(changes[n], *kill, lost) for n in changes for kill in kills))
    print("and is up again with it after:", ms(back(changes[n], *kill) for n in changes for kill in kills))
    seen = [[since(changes[n], *spread) for n in changes] for spread in spreads]
    print("a slot that leaves does so at all lbs within:", ms(max(times) - min(times) for times in seen if None not in times))
    print("rm and new weights are done after:", ms(writes), "; add after:", ms(adds))

    tasks = await asyncio.to_thread(fixture.tasks)
    there = [slot for slot, (node, _) in tasks.items() if node == 3]
    crashed = time.time()
    await asyncio.to_thread(fixture.nodes, "crash", 3)
    await asyncio.sleep(10)
    for node in (1, 2):
        await fixture.wait_for(f"all is up at lb {node} after the crash", lambda: fixture.all_up(node))
    changes = {node: list(fixture.changes(node)) for node in (1, 2)}
    print(f"a crashed node ({len(there)} replicas) is seen by an lb after:", ms(since(changes[n], s, crashed, lost) for n in changes for s in there))
    print("and they are up again with it after:", ms(back(changes[n], s, crashed) for n in changes for s in there))
    for node in (1, 2):
        os.kill(streams[node].pid, signal.SIGTERM)
        print(f"connections of clients at lb {node}:", streams[node].stdout.read().strip())


def back(changes, slot, begun):
    """How long after `begun` the slot was up again after it was lost."""
    lost = since(changes, slot, begun, ("starting", "down"))
    up = None if lost is None else since(changes, slot, begun + lost, ("up",))
    return None if up is None else lost + up


async def main():
    if sys.argv[1:] == ["--clients"]:
        return await clients()
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    fixture = Fixture(*sys.argv[1:])
    try:
        await play(fixture)
    finally:
        fixture.down()


asyncio.run(main())
