"""Functions and archives that mean harm: each gets its outcome, and neighbours
do not notice."""

import io
import os
import struct
import subprocess
import threading
import time
import zipfile
import zlib

from common import (PYTHON, ROLE, call, client, create, fail, main, pack, refused, run)

NEIGHBOUR = "import time\ndef handler(event, context):\n    time.sleep(0.02)\n    return event\n"


def beside_a_neighbour(attack):
    """Runs attack(api) while another function is called all the time; none of
    those calls may fail, and they stay quick."""
    api = client(config={"max_pool_connections": 4})
    create(api, "neighbour", NEIGHBOUR, Timeout=10)
    run(api, "neighbour")
    done, slowest, failures = threading.Event(), [0.0], []

    def watch():
        own = client()
        while not done.is_set():
            begun = time.monotonic()
            try:
                assert run(own, "neighbour", 7) == 7
            except Exception as error:
                failures.append(repr(error))
            slowest[0] = max(slowest[0], time.monotonic() - begun)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        attack(api)
    finally:
        done.set()
        watcher.join()
    assert not failures, failures[:3]
    assert slowest[0] < 5, f"the neighbour took {slowest[0]:.2f} s"


def fork_bomb():
    code = """
import os, time
def handler(event, context):
    forks = 0
    try:
        while True:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            forks += 1
    except OSError as error:
        return [forks, error.errno]
"""
    def attack(api):
        create(api, "bomb", code, Timeout=10, MemorySize=1024)
        answer = call(api, "bomb")
        # Refused at its limit, or ended; never more than its share.
        if "FunctionError" not in answer:
            forks, errno = answer["Json"]
            assert errno == 11 and forks <= 1024, answer["Json"]
        create(api, "after", "def handler(e, c):\n    return 1\n")
        assert run(api, "after") == 1

    beside_a_neighbour(attack)


def memory_bomb():
    code = "def handler(event, context):\n    x = []\n    while True:\n        x.append(bytearray(1 << 20))\n"

    def attack(api):
        create(api, "bomb", code, Timeout=20, MemorySize=128)
        error = fail(api, "bomb")
        assert error["errorType"] in ("Runtime.OutOfMemory", "Runtime.ExitError", "MemoryError"), error
        error = fail(api, "bomb")
        assert error["errorType"] in ("Runtime.OutOfMemory", "Runtime.ExitError", "MemoryError"), error

    beside_a_neighbour(attack)


def descriptor_bomb():
    code = """
import os
def handler(event, context):
    held = []
    try:
        while True:
            held.append(os.open('/dev/null', 0))
    except OSError as error:
        count = len(held)
        for fd in held:
            os.close(fd)
        return [count, error.errno]
"""
    def attack(api):
        create(api, "bomb", code, Timeout=10)
        count, errno = run(api, "bomb")
        assert errno == 24 and count <= 1024, (count, errno)

    beside_a_neighbour(attack)


def disk_fill():
    code = """
import os
def handler(event, context):
    written = 0
    try:
        with open('/tmp/full', 'wb', buffering=0) as file:
            while True:
                written += file.write(b'x' * (1 << 20))
    except OSError as error:
        os.unlink('/tmp/full')
        return [written >> 20, error.errno]
"""
    def attack(api):
        # /tmp lives in memory here, so the memory has to hold it.
        create(api, "bomb", code, Timeout=30, MemorySize=1536, EphemeralStorage={"Size": 512})
        written, errno = run(api, "bomb")
        assert errno == 28 and 480 <= written <= 513, (written, errno)
        create(api, "elsewhere", """
def handler(event, context):
    refusals = []
    for path in ['/var/task/x', '/opt/x', '/x', '/usr/x', '/etc/x', '/dev/x', '/proc/x', '/var/runtime/x']:
        try:
            open(path, 'w')
        except OSError as error:
            refusals.append(path)
    return len(refusals)
""")
        assert run(api, "elsewhere") == 8

    beside_a_neighbour(attack)


def log_flood():
    code = """
def handler(event, context):
    line = 'x' * 1000
    for _ in range(event['lines']):
        print(line)
    return 'done'
"""
    def attack(api):
        create(api, "flood", code, Timeout=60, MemorySize=512)
        answer = call(api, "flood", {"lines": 50000}, LogType="Tail")
        assert answer.get("Json") == "done", answer["Bytes"][:200]
        assert len(answer["Log"].encode()) <= 4096 * 2

    beside_a_neighbour(attack)


RAW = """#!/usr/bin/python3 -S
import os, socket, sys, time
host, port = os.environ['AWS_LAMBDA_RUNTIME_API'].split(':')
def connect():
    s = socket.create_connection((host, int(port)))
    s.settimeout(20)
    return s
def next_event(s):
    s.sendall(b'GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
    data = b''
    while b'\\r\\n\\r\\n' not in data:
        got = s.recv(65536)
        if not got: raise SystemExit(9)
        data += got
    head = data.split(b'\\r\\n\\r\\n')[0].decode()
    for line in head.split('\\r\\n'):
        if line.lower().startswith('lambda-runtime-aws-request-id:'):
            return line.split(':', 1)[1].strip()
def answer(s, request, body):
    s.sendall(('POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: %d\\r\\n\\r\\n' % (request, len(body))).encode() + body)
    return s.recv(65536)
"""


def raw_runtime(body):
    return pack({"bootstrap": RAW + body})


def garbage_to_the_runtime_api():
    bootstrap = raw_runtime("""
junk = [b'\\x00' * 5000, b'GET\\r\\n\\r\\n', b'NOPE / HTTP/9.9\\r\\n\\r\\n', b'\\xff\\xfe' * 3000,
        b'POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\\r\\nContent-Length: -5\\r\\n\\r\\n',
        b'POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\nzzz\\r\\n',
        b'GET /../../etc/passwd HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n',
        b'POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\\r\\nContent-Length: 99999999999999999999\\r\\n\\r\\n']
for piece in junk:
    try:
        s = connect(); s.sendall(piece); s.settimeout(0.3)
        try: s.recv(4096)
        except OSError: pass
        s.close()
    except OSError: pass
while True:
    s = connect()
    request = next_event(s)
    wrong = connect()
    wrong.sendall(b'POST /2018-06-01/runtime/invocation/not-this-one/response HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 2\\r\\n\\r\\n{}')
    refusal = wrong.recv(4096).split(b' ')[1].decode()
    answer(s, request, ('"survived %s"' % refusal).encode())
""")

    def attack(api):
        create(api, "garbage", bootstrap, runtime="provided.al2023", handler="x", Timeout=15)
        assert run(api, "garbage") == "survived 400"
        assert run(api, "garbage") == "survived 400"

    beside_a_neighbour(attack)


def never_calling_next():
    def attack(api):
        create(api, "silent", pack({"bootstrap": "#!/bin/sh\nexec sleep 600\n"}),
               runtime="provided.al2023", handler="x", Timeout=1)
        begun = time.monotonic()
        error = fail(api, "silent")
        assert error["errorType"] == "Sandbox.Timedout", error
        assert time.monotonic() - begun < 20

    beside_a_neighbour(attack)


def huge_headers():
    bootstrap = raw_runtime("""
while True:
    s = connect()
    request = next_event(s)
    big = connect()
    try:
        big.sendall(b'GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nX: ' + b'y' * (8 << 20) + b'\\r\\n\\r\\n')
        big.recv(100)
    except OSError: pass
    answer(s, request, b'"survived"')
""")

    def attack(api):
        create(api, "headers", bootstrap, runtime="provided.al2023", handler="x", Timeout=15, MemorySize=256)
        assert run(api, "headers") == "survived"

    beside_a_neighbour(attack)


def closing_in_the_middle_of_a_body():
    bootstrap = raw_runtime("""
first = not os.path.exists('/tmp/closed')
while True:
    s = connect()
    request = next_event(s)
    if first:
        first = False
        open('/tmp/closed', 'w').close()
        s.sendall(('POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 1000\\r\\n\\r\\nhalf' % request).encode())
        s.close()
        s = connect()
    answer(s, request, b'"whole"')
""")

    def attack(api):
        create(api, "closing", bootstrap, runtime="provided.al2023", handler="x", Timeout=5)
        answer = call(api, "closing")
        # The half answer never reaches the caller.
        assert answer["Bytes"] != b"half", answer["Bytes"]
        assert run(api, "closing") == "whole"

    beside_a_neighbour(attack)


def many_connections_to_the_runtime_api():
    bootstrap = raw_runtime("""
held = []
for _ in range(900):
    try: held.append(connect())
    except OSError: break
for s in held: s.close()
while True:
    s = connect()
    request = next_event(s)
    answer(s, request, b'"survived"')
""")

    def attack(api):
        create(api, "many", bootstrap, runtime="provided.al2023", handler="x", Timeout=15, MemorySize=256)
        assert run(api, "many") == "survived"

    beside_a_neighbour(attack)


def archive(entries):
    """A zip of (name, content, mode) that says what it is told to."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(info, content)
    return out.getvalue()


def hostile_archives():
    api = client()
    good = ("app.py", "def handler(event, context):\n    return 1\n", 0o100644)

    def attempt(code):
        """True when refused at create or at the first call; the host must not notice either way."""
        name = f"f{attempt.count}"
        attempt.count += 1
        try:
            create(api, name, code)
        except api.exceptions.InvalidParameterValueException:
            return "refused"
        except Exception as error:
            if "Waiter" in type(error).__name__:
                return "failed"
            raise
        answer = call(api, name)
        return "error" if "FunctionError" in answer else answer["Json"]

    attempt.count = 0
    for name in ["../../../../tmp/lamu-escaped", "/tmp/lamu-escaped", "a/../../lamu-escaped"]:
        outcome = attempt(archive([good, (name, "x", 0o100644)]))
        assert outcome in ("refused", "failed"), (name, outcome)
        assert not os.path.exists("/tmp/lamu-escaped")
    # A link out of the package may be kept as AWS does, but nothing is written through it.
    outcome = attempt(archive([good, ("out", "/tmp", 0o120777), ("out/lamu-escaped", "x", 0o100644)]))
    assert not os.path.exists("/tmp/lamu-escaped"), outcome
    damaged = bytearray(archive([good]))
    at = damaged.index(b"PK\x01\x02") + 16
    damaged[at:at + 4] = b"\x00\x00\x00\x00"
    assert attempt(bytes(damaged)) in ("refused", "failed")
    assert attempt(archive([good])[:-30]) in ("refused", "failed")
    many = archive([good] + [(f"n/{i}", "", 0o100644) for i in range(70000)])
    outcome = attempt(many)
    assert outcome in ("refused", "failed", 1), outcome


def zip_bomb():
    api = client()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
        made.writestr("app.py", "def handler(event, context):\n    return 1\n")
        for part in range(5):
            with made.open(f"zeros{part}", "w") as entry:
                for _ in range(60):
                    entry.write(bytes(1 << 20))
    with refused("InvalidParameterValueException", 400, "Unzipped size must be smaller than 262144000 bytes"):
        create(api, "bomb", out.getvalue())


main(globals())
