"""Starting and stopping what is measured: lamu, the floor, the load.

Not here: peers (peers.py), and which functions are run (functions.py).
"""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOAD = os.path.join(ROOT, "target", "bench", "load")


def load(url, connections, seconds, warmup=0.3, **more):
    """One run of the load generator; its figures as a dict."""
    command = [LOAD, "load", "--url", url, "--connections", str(connections),
               "--seconds", str(seconds), "--warmup", str(warmup)]
    for name, value in more.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + warmup + 60)
    if done.returncode != 0:
        raise RuntimeError(f"load on {url}: {done.stderr.strip()}")
    # Where nothing was answered there is no latency.
    return json.loads(done.stdout, parse_constant=lambda _: None)


class Floor:
    """The bare server with as many runtimes as there are connections."""

    def __init__(self, runtime, count):
        self.runtime, self.count = runtime, count

    def __enter__(self):
        self.server = subprocess.Popen([LOAD, "floor", "0"], stdout=subprocess.PIPE, text=True)
        address = self.server.stdout.readline().split()[-1]
        self.url = f"http://{address}/invoke"
        env = dict(os.environ, AWS_LAMBDA_RUNTIME_API=address, **self.runtime.get("env", {}))
        self.runtimes = [
            subprocess.Popen(self.runtime["command"], env=env, cwd=self.runtime.get("cwd"),
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for _ in range(self.count)
        ]
        load(self.url, self.count, 0.2, warmup=1.5)
        return self

    def __exit__(self, *_):
        for process in self.runtimes + [self.server]:
            process.kill()
            process.wait()


class Lamu:
    """One lamu on a free port with its data in `data`."""

    def __init__(self, root, data, extra=()):
        self.root, self.data, self.extra = root, data, extra

    def __enter__(self):
        self.log = open(os.path.join(self.data, "lamu.log"), "w+")
        binary = os.path.join(self.root, "target", "release", "lamu")
        self.process = subprocess.Popen(
            [binary, "run", "--listen", "127.0.0.1:0", "--data", os.path.join(self.data, "data"), *self.extra],
            stdout=self.log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 20
        while True:
            self.log.flush()
            text = open(self.log.name).read()
            found = re.search(r"http://(127\.0\.0\.1:[1-9]\d*)", text)
            if found:
                break
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"lamu did not start:\n{text}")
            time.sleep(0.02)
        self.endpoint = f"http://{found.group(1)}"
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def call(self, method, path, body=None, headers=None):
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.endpoint + path, data=data, method=method,
                                         headers={"Content-Type": "application/json", **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()}") from None

    def deploy(self, name, function):
        self.call("POST", "/2015-03-31/functions", {
            "FunctionName": name, "Role": "arn:aws:iam::000000000000:role/bench",
            "Runtime": function["runtime"], "Handler": function["handler"],
            "MemorySize": function.get("memory", 1769), "Timeout": 30,
            "Code": {"ZipFile": base64.b64encode(function["zip"]).decode()},
            "Environment": {"Variables": function.get("env", {})},
        })
        self.settle(name)

    def create_many(self, prefix, count, function):
        """`count` functions of one package, and nothing under way."""
        body = json.dumps({
            "FunctionName": prefix + "{n}", "Role": "arn:aws:iam::000000000000:role/bench",
            "Runtime": function["runtime"], "Handler": function["handler"],
            "Code": {"ZipFile": base64.b64encode(function["zip"]).decode()},
        })
        # Those under way when the last is counted are functions too.
        made = load(f"{self.endpoint}/2015-03-31/functions", 16, 600, warmup=0, body=body,
                    each=count + 16, count=count)
        for n in range(0, count, max(1, count // 50)):
            self.settle(f"{prefix}{n}")
        return made

    def list_all(self):
        """How many functions all pages show."""
        count, marker = 0, ""
        while True:
            _, _, body = self.call("GET", f"/2015-03-31/functions?MaxItems=50{marker}")
            page = json.loads(body)
            count += len(page["Functions"])
            if "NextMarker" not in page:
                return count
            marker = "&Marker=" + page["NextMarker"]

    def resident_mib(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            line = next(line for line in status if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    def settle(self, name):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            _, _, body = self.call("GET", f"/2015-03-31/functions/{name}/configuration")
            state = json.loads(body)
            if state["State"] == "Active" and state.get("LastUpdateStatus") == "Successful":
                return
            if "Failed" in (state["State"], state.get("LastUpdateStatus")):
                raise RuntimeError(f"{name} failed: {state}")
            time.sleep(0.005)
        raise RuntimeError(f"{name} did not settle")

    def delete(self, name):
        self.call("DELETE", f"/2015-03-31/functions/{name}")

    def invoke_url(self, name):
        return f"{self.endpoint}/2015-03-31/functions/{name}/invocations"

    def cold_invoke(self, name, index):
        """A first invoke of a configuration that was never run."""
        self.call("PUT", f"/2015-03-31/functions/{name}/configuration", {"Description": f"run {index}"})
        self.settle(name)
        begin = time.perf_counter()
        _, headers, _ = self.call("POST", f"/2015-03-31/functions/{name}/invocations", b"{}")
        total = (time.perf_counter() - begin) * 1000
        phases = {part.split(";")[0].strip(): float(part.split("dur=")[1])
                  for part in next((v for k, v in headers.items() if k.lower() == "server-timing"), "").split(",") if "dur=" in part}
        if "init" not in phases:
            raise RuntimeError(f"not a cold start: {headers}")
        entered = phases["placed"] + phases["sandbox"] + phases["init"]
        return {"total": total, "entered": entered, **phases}

    def idle_memory(self):
        """Memory of the one environment that is there, by part, in MiB."""
        parts = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                parent_ns = os.readlink(f"/proc/{pid}/ns/pid")
                cgroup = open(f"/proc/{pid}/cgroup").read()
                if "lamu" not in cgroup or parent_ns == os.readlink("/proc/self/ns/pid"):
                    continue
                name = open(f"/proc/{pid}/comm").read().strip()
                rollup = open(f"/proc/{pid}/smaps_rollup").read()
            except OSError:
                continue
            private = sum(int(kb) for kb in re.findall(r"Private_(?:Clean|Dirty):\s+(\d+)", rollup))
            parts[f"private memory of {name}"] = private / 1024
            path = re.search(r":memory:(.*)", cgroup) or re.search(r"0::(.*lamu.*)", cgroup)
            for base in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup"):
                for file, title in [("memory.usage_in_bytes", "cgroup"), ("memory.current", "cgroup"),
                                    ("memory.kmem.usage_in_bytes", "kernel part of the cgroup")]:
                    full = base + (path.group(1) if path else "") + "/" + file
                    if os.path.exists(full):
                        parts[title] = int(open(full).read()) / (1 << 20)
        return parts
