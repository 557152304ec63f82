"""The functions that are measured, and the runtimes and commands of the floor.

Each function echoes its event. Not here: starting servers (servers.py).
"""

import io
import os
import re
import subprocess
import time
import zipfile

PYTHON = "def handler(event, context):\n    return event\n"
# What the stock clients want to find in their environment.
FLOOR_ENV = {"AWS_LAMBDA_FUNCTION_NAME": "floor", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
             "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769", "AWS_LAMBDA_LOG_GROUP_NAME": "floor",
             "AWS_LAMBDA_LOG_STREAM_NAME": "floor", "_HANDLER": "app.handler"}

NODE = "exports.handler = async (event) => event;\n"


def make_zip(files):
    """A zip of {name: (bytes, mode)}."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (content, mode) in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return out.getvalue()


def load_binary(root):
    return os.path.join(root, "target", "bench", "load")


def stock_binary(root):
    return os.path.join(root, "target", "bench", "echo-rust")


def native(path):
    if not os.path.exists(path):
        return None
    content = open(path, "rb").read()
    return {"runtime": "provided.al2023", "handler": "bootstrap", "zip": make_zip({"bootstrap": (content, 0o755)})}


def native_raw(root):
    return native(load_binary(root))


def native_stock(root):
    return native(stock_binary(root))


def python_version():
    done = subprocess.run(["python3", "-c", "import sys; print(sys.version_info[1])"], capture_output=True, text=True)
    return f"python3.{done.stdout.strip()}"


def python_own():
    return {"runtime": python_version(), "handler": "app.handler", "zip": make_zip({"app.py": (PYTHON.encode(), 0o644)})}


def ric_packages(root):
    """Where the stock client is installed: `pip install --target`."""
    path = os.path.join(root, "target", "bench", "ric")
    return path if os.path.isdir(path) else None


def python_stock(root):
    path = ric_packages(root)
    if path is None:
        return None
    files = {"app.py": (PYTHON.encode(), 0o644),
             "bootstrap": (f"#!/bin/sh\nexec {interpreter()} -m awslambdaric app.handler\n".encode(), 0o755)}
    for folder, _, names in os.walk(path):
        for name in names:
            full = os.path.join(folder, name)
            if "__pycache__" not in full:
                files[os.path.relpath(full, path)] = (open(full, "rb").read(), 0o755)
    return {"runtime": "provided.al2023", "handler": "app.handler", "zip": make_zip(files)}


def interpreter():
    """The system's interpreter, which a sandbox sees under /usr."""
    return "/usr/bin/python3"


def node_own():
    done = subprocess.run(["node", "--version"], capture_output=True, text=True)
    if done.returncode != 0:
        return None
    major = done.stdout.strip().lstrip("v").split(".")[0]
    return {"runtime": f"nodejs{major}.x", "handler": "index.handler", "zip": make_zip({"index.js": (NODE.encode(), 0o644)})}


def floor_runtime(root, kind):
    """What asks the bare server for events."""
    if kind == "native_raw":
        link = os.path.join(root, "target", "bench", "bootstrap")
        if not os.path.exists(link):
            os.symlink(load_binary(root), link)
        return {"command": [link]}
    if kind == "native_stock":
        path = stock_binary(root)
        return {"command": [path], "env": FLOOR_ENV} if os.path.exists(path) else None
    path = ric_packages(root)
    if path is None:
        return None
    app = os.path.join(root, "target", "bench", "floor-app")
    os.makedirs(app, exist_ok=True)
    with open(os.path.join(app, "app.py"), "w") as out:
        out.write(PYTHON)
    return {"command": [interpreter(), "-m", "awslambdaric", "app.handler"], "cwd": app,
            "env": {**FLOOR_ENV, "PYTHONPATH": f"{path}:{app}", "LAMBDA_TASK_ROOT": app}}


def spawn_native(root):
    # It says how it is used and ends.
    return [load_binary(root)]


def time_command(command):
    begin = time.perf_counter()
    # Without closing descriptors Python spawns instead of forking itself.
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False)
    return (time.perf_counter() - begin) * 1000


def sandbox_rows(root, rows, rounds):
    """Rows of the sandbox driver's own bench; it says how its lines look."""
    binary = os.path.join(root, "target", "release", "examples", "spawn_bench")
    init = os.path.join(root, "target", "bench", "lamu-init")
    if not (os.path.exists(binary) and os.path.exists(init)):
        print("skipped: sandbox rows (bench/prepare builds what they need)")
        return
    done = subprocess.run([binary, init, str(rounds)], capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        print(f"skipped: sandbox rows: {done.stderr.strip()[-300:]}")
        return
    for line in done.stdout.splitlines():
        found = re.match(r"row\t([^\t]+)\t([^\t]+)\t([\d.]+)(?:\t([\d.]+))?$", line)
        if found:
            name, unit, ours, floor = found.groups()
            rows.add(name, unit, float(floor) if floor else None, float(ours), rounds=rounds,
                     beside="the same init started with nothing around it" if floor else None)


