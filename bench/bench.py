#!/usr/bin/env python3
"""`make bench`: what lamu costs, beside the machine's own floor and the peers.

Every row is measured in one run on one machine: floor and lamu in turn, then
the peers that are installed (`make bench-peers`). Rows go to the terminal and
to target/bench.json, one object a row: name, unit, floor, ours, ratio, peers,
conditions. Latencies are in ms; a ratio is ours / floor, so for latencies less
is better and for rates more.

Not here: the load generator and the floor themselves (crates/lamu/benches/load).
"""

import argparse
import base64
import json
import os
import shutil
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import functions  # noqa: E402
import peers  # noqa: E402
from servers import Floor, Lamu, load  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONNECTIONS = [1, 8, 64]


class Rows:
    """Collects rows and prints each as it comes."""

    def __init__(self):
        self.rows = []

    def add(self, name, unit, floor, ours, peers=None, **conditions):
        ratio = ours / floor if floor and ours is not None else None
        row = {"name": name, "unit": unit, "floor": floor, "ours": ours, "ratio": ratio,
               "peers": peers or {}, "conditions": conditions}
        self.rows.append(row)
        number = lambda value: "-" if value is None else f"{value:,.3f}" if value < 100 else f"{value:,.0f}"
        beside = "  ".join(f"{k} {number(v)}" for k, v in row["peers"].items() if not isinstance(v, str))
        notes = "  ".join(f"{k} {v}" for k, v in row["peers"].items() if isinstance(v, str))
        print(f"{name:<58} {unit:>6}  floor {number(floor):>9}  ours {number(ours):>9}  "
              f"ratio {number(ratio):>7}  {beside} {notes}".rstrip(), flush=True)

    def write(self, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as out:
            json.dump(self.rows, out, indent=1)


def pairs(rounds, *measures):
    """Runs the measures in turn, `rounds` times, and gives each one's runs."""
    runs = [[] for _ in measures]
    for _ in range(rounds):
        for index, measure in enumerate(measures):
            runs[index].append(measure())
    return runs


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def open_loop(rows, title, url, floor_url, closed_rate, args):
    """Requests that fall due at fixed times: half of what the closed loop gave
    at 64 connections, so that waiting in lines shows and collapse does not."""
    rate = round(closed_rate / 2)
    floors, ours = pairs(
        args.rounds,
        lambda: load(floor_url, 64, args.seconds, rate=rate),
        lambda: load(url, 64, args.seconds, rate=rate),
    )
    conditions = {"connections": 64, "loop": "open", "rate": rate, "rounds": args.rounds, "seconds": args.seconds,
                  "errors": sum(run["errors"] + run["function_errors"] for run in ours)}
    for figure, key in [("p50", "p50_ms"), ("p99", "p99_ms")]:
        rows.add(f"warm invoke, {title}, {rate:,} /s due, {figure}", "ms", median(floors, key), median(ours, key), **conditions)


def warm(rows, lamu, args):
    kinds = [
        ("native raw client", functions.native_raw(ROOT), "native_raw", "invoke-native-raw"),
        ("native lambda_runtime", functions.native_stock(ROOT), "native_stock", "invoke-native"),
        ("Python, our bootstrap", functions.python_own(), None, "invoke-python"),
        ("Python, awslambdaric", functions.python_stock(ROOT), "python_stock", "invoke-ric"),
        ("Node, our bootstrap", functions.node_own(), None, "invoke-node"),
    ]
    for title, function, floor_kind, name in kinds:
        if function is None:
            print(f"skipped: {title} (not built or not installed)")
            continue
        lamu.deploy(name, function)
        for connections in CONNECTIONS:
            runtime = functions.floor_runtime(ROOT, floor_kind or "native_raw")
            if runtime is None:
                print(f"skipped: floor of {title}")
                continue
            with Floor(runtime, connections) as floor:
                # Environments exist before anything is counted.
                load(lamu.invoke_url(name), connections, 0.2, warmup=args.seconds + 2)
                floors, ours = pairs(
                    args.rounds,
                    lambda: load(floor.url, connections, args.seconds),
                    lambda: load(lamu.invoke_url(name), connections, args.seconds),
                )
                if connections == 64 and floor_kind == "native_raw":
                    open_loop(rows, title, lamu.invoke_url(name), floor.url, median(ours, "per_second"), args)
            conditions = {"connections": connections, "loop": "closed",
                          "beside": f"raw server + {floor_kind or 'native_raw'}",
                          "rounds": args.rounds, "seconds": args.seconds}
            errors = sum(run["errors"] + run["function_errors"] for run in ours)
            conditions["errors"] = errors
            label = f"warm invoke, {title}, {connections} conn"
            beside = {"errors": str(errors)} if errors else {}
            rows.add(f"{label}, p50", "ms", median(floors, "p50_ms"), median(ours, "p50_ms"), beside, **conditions)
            rows.add(f"{label}, p99", "ms", median(floors, "p99_ms"), median(ours, "p99_ms"), **conditions)
            rows.add(f"{label}, rate", "/s", median(floors, "per_second"), median(ours, "per_second"), **conditions)
        lamu.delete(name)


def cold(rows, lamu, args):
    for title, function, command in [
        ("native", functions.native_stock(ROOT) or functions.native_raw(ROOT), functions.spawn_native(ROOT)),
        ("Python hello", functions.python_own(), [functions.interpreter(), "-c", "import json, socket"]),
        ("Node hello", functions.node_own(), ["node", "-e", "0"]),
    ]:
        if function is None:
            continue
        floors = [functions.time_command(command) for _ in range(args.colds)]
        name = "cold-start"
        lamu.deploy(name, function)
        runs = [lamu.cold_invoke(name, index) for index in range(args.colds)]
        lamu.delete(name)
        conditions = {"runs": args.colds, "beside": "start and end of " + " ".join(command[:3])}
        for phase in ["entered", "total", "placed", "sandbox", "init"]:
            of_phase = sorted(run[phase] for run in runs if phase in run)
            if not of_phase:
                continue
            wording = {"entered": "decision to handler entered", "total": "request to first byte of the answer"}
            label = f"cold start, {title}, {wording.get(phase, phase)}"
            floor = statistics.median(floors) if phase in ("entered", "total", "init") else None
            rows.add(f"{label}, p50", "ms", floor, statistics.median(of_phase), **conditions)
            if phase in ("entered", "sandbox"):
                rows.add(f"{label}, p99", "ms", None, of_phase[min(len(of_phase) - 1, int(len(of_phase) * 0.99))], **conditions)


def memory(rows, lamu):
    function = functions.native_raw(ROOT)
    lamu.deploy("idle-memory", function)
    lamu.cold_invoke("idle-memory", 0)
    time.sleep(0.5)
    parts = lamu.idle_memory()
    lamu.delete("idle-memory")
    for part, mib in parts.items():
        rows.add(f"idle environment, {part}", "MiB", None, mib, function="native raw client")


def control(rows, lamu, args):
    """The control plane over many functions: reads, pages, durable writes."""
    count, connections = args.functions, 64
    function = functions.python_own() or functions.native_raw(ROOT)
    made = lamu.create_many("control-", count, function)
    conditions = {"functions": count, "connections": 16, "errors": made["errors"]}
    rows.add(f"create, {count:,} functions, rate", "/s", None, made["per_second"], **conditions)
    functions_url = f"{lamu.endpoint}/2015-03-31/functions"
    arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Acontrol-{n}"
    marker = base64.urlsafe_b64encode(b"control-5").decode().rstrip("=")
    for title, method, url, body, each in [
        ("GetFunctionConfiguration", "GET", functions_url + "/control-{n}/configuration", "", count),
        ("ListFunctions, first page of 50", "GET", f"{functions_url}?MaxItems=50", "", 1),
        ("ListFunctions, a page from the middle", "GET", f"{functions_url}?MaxItems=50&Marker={marker}", "", 1),
        ("TagResource, durable", "POST", f"{lamu.endpoint}/2017-03-31/tags/{arn}", '{"Tags":{"k":"{n}"}}', count),
    ]:
        runs = [load(url, connections, args.seconds, method=method, body=body, each=each)
                for _ in range(args.rounds)]
        errors = sum(run["errors"] for run in runs)
        conditions = {"functions": count, "connections": connections, "errors": errors,
                      "rounds": args.rounds, "seconds": args.seconds}
        label, beside = f"{title}, of {count:,} functions", {"errors": str(errors)} if errors else {}
        rows.add(f"{label}, rate", "/s", None, median(runs, "per_second"), beside, **conditions)
        rows.add(f"{label}, p99", "ms", None, median(runs, "p99_ms"), **conditions)
    lamu.list_all()
    before = lamu.resident_mib()
    for _ in range(3):
        listed = lamu.list_all()
    grown = lamu.resident_mib() - before
    rows.add(f"listing {listed:,} functions in pages, memory gained by the third time", "MiB", None, grown,
             resident=before)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, in turn")
    parser.add_argument("--functions", type=int, default=10_000, help="functions of the control plane's rows")
    parser.add_argument("--colds", type=int, default=40, help="cold starts of each kind")
    parser.add_argument("--sandboxes", type=int, default=300, help="sandboxes made for each of their figures")
    parser.add_argument("--only", default="warm,cold,memory,control,sandbox,peers", help="parts to run")
    parser.add_argument("--real-time", action="store_true",
                        help="run all of it in a real-time class, on a machine with neighbours (needs root)")
    parser.add_argument("--out", default=os.path.join(ROOT, "target", "bench.json"))
    args = parser.parse_args()
    parts = args.only.split(",")
    rows = Rows()
    if args.real_time:
        # What is started from here inherits it: floor, lamu, functions, load.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, {os.uname().release}")
    data = tempfile.mkdtemp(prefix="lamu-bench-")
    os.chmod(data, 0o755)
    try:
        with Lamu(ROOT, data) as lamu:
            if "warm" in parts:
                warm(rows, lamu, args)
            if "cold" in parts:
                cold(rows, lamu, args)
            if "memory" in parts:
                memory(rows, lamu)
            if "control" in parts:
                control(rows, lamu, args)
        if "sandbox" in parts:
            functions.sandbox_rows(ROOT, rows, args.sandboxes)
        if "peers" in parts:
            peers.rows(ROOT, rows, args)
    finally:
        shutil.rmtree(data, ignore_errors=True)
        rows.write(args.out)
    print(f"written to {os.path.relpath(args.out)}")


if __name__ == "__main__":
    main()
