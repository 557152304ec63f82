"""What people use today, measured with the same load in the same run.

`make bench-peers` installs them under target/peers; one that is missing is
named and left out. Each serves an echo function; what cannot take overlapping
calls shows it in its errors.

Not here: lamu and the floor (servers.py).
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import functions
from servers import load


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer:
    """A started peer: `url` answers POSTs with the echoed event."""

    def __init__(self, name, language):
        self.name, self.language = name, language
        self.folder = tempfile.mkdtemp(prefix="lamu-peer-")
        self.process = None

    def start(self, command, env=None, cwd=None):
        self.log = open(os.path.join(self.folder, "log"), "w")
        self.process = subprocess.Popen(command, env={**os.environ, **(env or {})}, cwd=cwd or self.folder,
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT,
                                        start_new_session=True)

    def wait(self, seconds, data=b'{"a": 1}'):
        deadline = time.monotonic() + seconds
        while True:
            try:
                request = urllib.request.Request(self.url, data=data, headers={"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=10) as response:
                    if json.loads(response.read()).get("a") == 1:
                        return
            except (OSError, ValueError, urllib.error.HTTPError):
                pass
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"did not answer: {open(self.log.name).read()[-300:]}")
            time.sleep(0.1)

    def stop(self):
        if self.process is not None:
            # Its own session, so that its children go with it.
            try:
                os.killpg(self.process.pid, 9)
            except ProcessLookupError:
                pass
            self.process.wait()
            self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def cargo_lambda(base, root):
    binary = os.path.join(base, "venv", "bin", "cargo-lambda")
    project = os.path.join(root, "bench", "echo-rust")
    if not os.path.exists(binary) or not os.path.isdir(project):
        return None
    peer = Peer("cargo-lambda watch", "native")
    port = free_port()
    peer.url = f"http://127.0.0.1:{port}/2015-03-31/functions/echo-rust/invocations"
    peer.start([binary, "lambda", "watch", "--release", "--ignore-changes", "--invoke-address", "127.0.0.1", "--invoke-port", str(port)],
               env={"CARGO_TARGET_DIR": os.path.join(root, "target", "echo-rust"),
                    "PATH": os.path.join(base, "venv", "bin") + ":" + os.environ["PATH"]}, cwd=project)
    return peer, 240


def emulator(base, root):
    binary = os.path.join(base, "aws-lambda-rie")
    bootstrap = functions.stock_binary(root)
    if not os.path.exists(binary) or not os.path.exists(bootstrap):
        return None
    peer = Peer("runtime interface emulator", "native")
    port = free_port()
    peer.url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
    peer.start([binary, "--runtime-interface-emulator-address", f"127.0.0.1:{port}",
                "--runtime-api-address", f"127.0.0.1:{free_port()}", "--log-level", "error", bootstrap])
    return peer, 20


def ministack(base, _root):
    binary = os.path.join(base, "venv", "bin", "ministack")
    if not os.path.exists(binary):
        return None
    peer = Peer("MiniStack", "Python")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    peer.url = f"{endpoint}/2015-03-31/functions/echo/invocations"
    peer.start([binary], env={"GATEWAY_PORT": str(port), "MINISTACK_HOST": "127.0.0.1"})
    function = functions.python_own()
    body = json.dumps({"FunctionName": "echo", "Runtime": function["runtime"], "Handler": function["handler"],
                       "Role": "arn:aws:iam::000000000000:role/bench", "MemorySize": 1769,
                       "Code": {"ZipFile": base64.b64encode(function["zip"]).decode()}}).encode()
    deadline = time.monotonic() + 40
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(f"{endpoint}/2015-03-31/functions", data=body), timeout=10)
            return peer, 20
        except OSError as error:
            if time.monotonic() > deadline or peer.process.poll() is not None:
                peer.stop()
                raise RuntimeError(f"create failed: {error}") from None
            time.sleep(0.2)


def serverless_offline(base, _root):
    binary = os.path.join(base, "npm", "node_modules", ".bin", "osls")
    if not os.path.exists(binary):
        return None
    peer = Peer("serverless-offline", "Node")
    port = free_port()
    with open(os.path.join(peer.folder, "serverless.yml"), "w") as out:
        out.write("service: bench\nprovider: {name: aws, runtime: nodejs20.x, memorySize: 1769}\n"
                  "plugins: [serverless-offline]\nfunctions:\n  echo: {handler: index.handler}\n")
    with open(os.path.join(peer.folder, "index.js"), "w") as out:
        out.write(functions.NODE)
    os.symlink(os.path.join(base, "npm", "node_modules"), os.path.join(peer.folder, "node_modules"))
    peer.url = f"http://127.0.0.1:{port}/2015-03-31/functions/bench-dev-echo/invocations"
    peer.start([binary, "offline", "start", "--host", "127.0.0.1", "--lambdaPort", str(port),
                "--httpPort", str(free_port()), "--noSponsor"],
               env={"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "SLS_TELEMETRY_DISABLED": "1"})
    return peer, 60


def workerd(base, _root):
    binary = os.path.join(base, "npm", "node_modules", ".bin", "workerd")
    if not os.path.exists(binary):
        return None
    peer = Peer("workerd", "Node")
    port = free_port()
    with open(os.path.join(peer.folder, "config.capnp"), "w") as out:
        out.write('using Workerd = import "/workerd/workerd.capnp";\nconst config :Workerd.Config = (\n'
                  '  services = [(name = "main", worker = .echo)],\n'
                  f'  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")]\n);\n'
                  'const echo :Workerd.Worker = (\n  modules = [(name = "worker", esModule = embed "echo.js")],\n'
                  '  compatibilityDate = "2024-01-01",\n);\n')
    with open(os.path.join(peer.folder, "echo.js"), "w") as out:
        out.write("export default { async fetch(request) { return Response.json(await request.json()); } };\n")
    peer.url = f"http://127.0.0.1:{port}/"
    peer.start([binary, "serve", "config.capnp"])
    return peer, 20


def rows(root, rows, args):
    base = os.path.join(root, "target", "peers")
    ours = {(row["name"]): row["ours"] for row in rows.rows}
    own = {"native": "native lambda_runtime", "Python": "Python, our bootstrap", "Node": "Node, our bootstrap"}
    for make in [cargo_lambda, emulator, ministack, serverless_offline, workerd]:
        try:
            made = make(base, root)
        except RuntimeError as error:
            print(f"skipped: peer {make.__name__}: {error}")
            continue
        if made is None:
            print(f"skipped: peer {make.__name__} (make bench-peers installs it)")
            continue
        peer, patience = made
        try:
            peer.wait(patience)
            for connections in [1, 8, 64]:
                label = f"warm invoke, {own[peer.language]}, {connections} conn"
                try:
                    run = load(peer.url, connections, args.seconds, warmup=1.0, body='{"a":1}')
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    rows.add(f"{peer.name}, {connections} conn", "ms", None, ours.get(f"{label}, p50"),
                             {"failed": str(error)[-80:]}, connections=connections, peer=peer.name)
                    continue
                bad = run["errors"] + run["function_errors"]
                for figure, key, unit in [("p50", "p50_ms", "ms"), ("p99", "p99_ms", "ms"), ("rate", "per_second", "/s")]:
                    rows.add(f"{peer.name} beside {own[peer.language]}, {connections} conn, {figure}", unit, None,
                             ours.get(f"{label}, {figure}"), {peer.name: run[key], "errors": f"{bad} of {run['count']}"},
                             connections=connections, loop="closed", peer=peer.name)
        except RuntimeError as error:
            print(f"skipped: peer {peer.name}: {error}")
        finally:
            peer.stop()
