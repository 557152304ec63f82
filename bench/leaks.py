#!/usr/bin/env python3
"""`make leaks`: 10,000 mixed creates, invokes, updates and deletes against one
lamu, then what is left of them: processes, cgroups, namespaces, mounts, open
files, packages, memory. Ends in `N passed, N failed`.

Functions of three runtimes come and go; a tenth of the invokes time out, crash
or exit. Everything is deleted before the count; what lamu keeps on purpose
(its pools) is counted before the first call and allowed for.
"""

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
import urllib.error

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import functions  # noqa: E402
from servers import Lamu  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

PYTHON = """
import os, time
def handler(event, context):
    how = event.get("how")
    if how == "exit": os._exit(3)
    if how == "throw": raise ValueError("asked to")
    if how == "sleep": time.sleep(30)
    if how == "fork": os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "1000")
    if how == "file": open("/tmp/left", "wb").write(b"x" * 1000000)
    return event
"""


def held(lamu):
    """What exists on this machine on behalf of the lamu under test."""
    root = lamu.process.pid
    children, frontier = set(), {root}
    parents = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = open(f"/proc/{pid}/stat").read()
            parents[int(pid)] = int(stat.rsplit(")", 1)[1].split()[1])
        except OSError:
            pass
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier} - children
        children |= frontier
    namespaces = set()
    for pid in children:
        for kind in ("net", "pid", "mnt", "user"):
            try:
                namespaces.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                pass
    own = {os.readlink(f"/proc/{root}/ns/{kind}") for kind in ("net", "pid", "mnt", "user")}
    cgroups = 0
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        if "/lamu" in folder:
            cgroups += 1
    status = open(f"/proc/{root}/status").read()
    return {
        "processes": len(children),
        "namespaces": len(namespaces - own),
        "cgroups": cgroups,
        "mounts": sum(1 for line in open(f"/proc/{root}/mountinfo") if "lamu" in line),
        "open files": len(os.listdir(f"/proc/{root}/fd")),
        "memory MiB": int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024,
        "threads": int(re.search(r"Threads:\s+(\d+)", status).group(1)),
        "temporary files": sum(1 for name in os.listdir("/tmp") if name.startswith("lamu") and name not in KNOWN),
    }


KNOWN = set()
counts = {}
lock = threading.Lock()


def count(what):
    with lock:
        counts[what] = counts.get(what, 0) + 1


def life(lamu, index, operations, seed):
    """One client: a seeded walk over its own few functions."""
    random_ = random.Random(seed)
    mine = {}
    python = {"runtime": functions.python_version(), "handler": "app.handler", "memory": 128}
    for _ in range(operations):
        name = f"leak-{index}-{random_.randrange(3)}"
        try:
            if name not in mine:
                kind = random_.choice(["python", "python", "native", "node"])
                if kind == "python":
                    text = PYTHON + f"\n# {random_.random()}\n"
                    function = dict(python, zip=functions.make_zip({"app.py": (text.encode(), 0o644)}))
                elif kind == "native":
                    function = dict(functions.native_raw(ROOT), memory=128)
                else:
                    function = dict(functions.node_own(), memory=256)
                lamu.deploy(name, function)
                mine[name] = kind
                count("creates")
            elif random_.random() < 0.06:
                lamu.delete(name)
                del mine[name]
                count("deletes")
            elif random_.random() < 0.06:
                lamu.call("PUT", f"/2015-03-31/functions/{name}/configuration",
                          {"Timeout": 1, "Environment": {"Variables": {"RUN": str(random_.random())}}})
                lamu.settle(name)
                count("updates")
            else:
                how = random_.choice(["exit", "throw", "fork", "file", "sleep"]) if random_.random() < 0.1 else None
                if how == "sleep" and random_.random() < 0.9:
                    how = "throw"
                if how == "sleep":
                    lamu.call("PUT", f"/2015-03-31/functions/{name}/configuration", {"Timeout": 1})
                    lamu.settle(name)
                body = json.dumps({"how": how} if mine[name] == "python" else {"a": 1}).encode()
                lamu.call("POST", f"/2015-03-31/functions/{name}/invocations", body)
                count("invokes")
        except (RuntimeError, urllib.error.URLError) as error:
            count(f"refused: {str(error)[:90]}")
    for name in mine:
        lamu.delete(name)
        count("deletes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    KNOWN.update(os.listdir("/tmp"))
    data = tempfile.mkdtemp(prefix="lamu-leaks-")
    KNOWN.add(os.path.basename(data))
    os.chmod(data, 0o755)
    failed, passed = [], 0
    try:
        with Lamu(ROOT, data, extra=["--keep-alive-secs", "2"]) as lamu:
            # Pools fill, and every lazy part is there once.
            life(lamu, "warm-up", 60, args.seed)
            time.sleep(4)
            before = held(lamu)
            begin = time.monotonic()
            clients = [threading.Thread(target=life, args=(lamu, index, args.operations // args.clients, args.seed + index))
                       for index in range(args.clients)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            took = time.monotonic() - begin
            for what, many in sorted(counts.items()):
                print(f"{many:>8}  {what}")
            print(f"in {took:.0f} s; waiting for idle environments to end")
            refused = sum(many for what, many in counts.items() if what.startswith("refused"))
            allowed = {"memory MiB": 48, "open files": 24, "threads": 8}
            deadline = time.monotonic() + 30
            while True:
                after = held(lamu)
                failed = [what for what in before if after[what] > before[what] + allowed.get(what, 0)]
                if not failed or time.monotonic() > deadline:
                    break
                time.sleep(0.5)
            for what in before:
                verdict = "LEFT" if what in failed else "ok"
                print(f"{what:<18} before {before[what]:>8.1f}  after {after[what]:>8.1f}  {verdict}")
            passed = len(before) - len(failed)
            if refused:
                failed.append("requests refused")
            pid = lamu.process.pid
        # And when lamu has ended, nothing at all.
        rest = {
            "processes after the end": [p for p in filter(str.isdigit, os.listdir("/proc"))
                                        if cgroup_of(p).find("lamu/") >= 0],
            "cgroups after the end": [f for f, _, _ in os.walk("/sys/fs/cgroup") if re.search(r"/lamu/.*" + str(pid), f)],
            "mounts after the end": [line for line in open("/proc/self/mountinfo") if data in line],
        }
        for what, left in rest.items():
            print(f"{what:<24} {len(left)}")
            if left:
                failed.append(what)
            else:
                passed += 1
    finally:
        shutil.rmtree(data, ignore_errors=True)
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


def cgroup_of(pid):
    try:
        return open(f"/proc/{pid}/cgroup").read()
    except OSError:
        return ""


if __name__ == "__main__":
    main()
