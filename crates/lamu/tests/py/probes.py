"""What a function can see and do from inside its sandbox: only its own."""

import os
import socket
import threading

from common import call, client, create, main, run

PROBE = '''
import ctypes, errno, os, socket, struct, subprocess

def attempt(do):
    try:
        return do()
    except BaseException as error:
        return f"{type(error).__name__} {getattr(error, 'errno', '')}".strip()

def connect(address, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(2)
        s.connect(address)
        return "connected"

def handler(event, context):
    return eval(event["do"])
'''


def probe(api, do):
    return run(api, "probe", {"do": do})


def prepared():
    api = client()
    create(api, "probe", PROBE, Timeout=30, MemorySize=256)
    return api


def sees_only_its_own_files():
    api = prepared()
    root = os.environ["LAMU_TEST_ROOT"]
    log = os.environ["LAMU_TEST_LOG"]
    for path in [root, log, os.path.dirname(log), "/root", "/home", "/etc/shadow", "/var/log", "/sys/fs/cgroup",
                 "/run", "/boot", "/etc/ssh", "/var/lib"]:
        # An interpreter outside /usr is bound at its own path, so a directory
        # on the way may be there; it shows nothing.
        seen = probe(api, f"attempt(lambda: os.listdir({path!r}) if os.path.isdir({path!r}) else os.path.exists({path!r}))")
        assert seen in (False, [], "PermissionError 13"), (path, seen)
    entries = probe(api, "sorted(os.listdir('/'))")
    prefix = probe(api, "os.path.realpath(os.sys.base_prefix).split('/')[1]")
    assert set(entries) <= {prefix, "home", "root", "run", "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "sbin", "tmp", "usr", "var", "mnt", "sys"}, entries
    assert probe(api, "os.listdir('/tmp')") == []
    devices = probe(api, "sorted(os.listdir('/dev'))")
    assert set(devices) <= {"null", "zero", "full", "random", "urandom", "fd", "stdin", "stdout", "stderr", "tty", "ptmx", "pts", "core"}, devices
    assert "shm" not in devices
    mounts = probe(api, "open('/proc/self/mountinfo').read()")
    for line in mounts.splitlines():
        fields = line.split()
        if fields[4] != "/tmp" and not fields[4].startswith(("/proc", "/dev")):
            assert "ro" in fields[5].split(","), line


def sees_only_its_own_processes():
    api = prepared()
    pids = probe(api, "sorted(int(p) for p in os.listdir('/proc') if p.isdigit())")
    assert len(pids) <= 4 and max(pids) < 100, pids
    names = probe(api, "[open(f'/proc/{p}/comm').read().strip() for p in os.listdir('/proc') if p.isdigit()]")
    assert not any("spawner" in name for name in names), names
    for path in ["/proc/1/environ", "/proc/1/mem", "/proc/1/maps", "/proc/1/root/etc/hostname"]:
        assert "Error" in str(probe(api, f"attempt(lambda: open({path!r}, 'rb').read(16).hex())")), path
    assert "Error" in str(probe(api, "attempt(lambda: os.kill(1, 0) or os.kill(1, 9) or 'killed')")) or probe(api, "1") == 1


def reaches_no_service_of_the_host():
    api = prepared()
    listener = socket.socket()
    listener.bind(("0.0.0.0", 0))
    listener.listen()
    port = listener.getsockname()[1]
    own = socket.gethostbyname(socket.gethostname())
    endpoint = os.environ["AWS_ENDPOINT_URL_LAMBDA"].rsplit(":", 1)[1]
    for host, p in [("127.0.0.1", port), (own, port), ("127.0.0.1", int(endpoint)), ("169.254.169.254", 80),
                    ("169.254.170.2", 80), ("10.0.0.1", 80)]:
        got = probe(api, f"attempt(lambda: connect(({host!r}, {p})))")
        assert got != "connected", (host, p, got)
    interfaces = probe(api, "[name for _, name in socket.if_nameindex()]")
    assert interfaces == ["lo"], interfaces
    # No socket of another is in view, by file or by name.
    unix = probe(api, "attempt(lambda: [l.split()[-1] for l in open('/proc/net/unix').read().splitlines()[1:] if '/' in l or '@' in l])")
    assert unix == [] or "Error" in str(unix), unix


def two_sandboxes_do_not_meet():
    api = prepared()
    create(api, "server", """
import socket
def handler(event, context):
    s = socket.socket(); s.bind(('127.0.0.1', 7777)); s.listen()
    u = socket.socket(socket.AF_UNIX); u.bind('\\0abstract-of-mine'); u.listen()
    open('/tmp/secret', 'w').write('mine')
    s.settimeout(3)
    try:
        s.accept()
        return 'met'
    except OSError:
        return 'alone'
""", Timeout=10)
    met = []
    thread = threading.Thread(target=lambda: met.append(run(client(), "server")))
    thread.start()
    for _ in range(10):
        assert probe(api, "attempt(lambda: connect(('127.0.0.1', 7777)))") != "connected"
        assert probe(api, "attempt(lambda: connect('\\0abstract-of-mine', socket.AF_UNIX))") != "connected"
        assert probe(api, "os.path.exists('/tmp/secret')") is False
    thread.join()
    assert met == ["alone"], met


def has_no_privilege():
    api = prepared()
    status = dict(line.split(":\t", 1) for line in probe(api, "open('/proc/self/status').read()").splitlines() if ":\t" in line)
    for kind in ["CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"]:
        assert int(status[kind], 16) == 0, (kind, status[kind])
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert status["Uid"].split()[0] != "0", status["Uid"]
    assert probe(api, "attempt(lambda: os.setuid(0))").endswith("Error 1")
    limits = probe(api, "open('/proc/self/limits').read()")
    files = [line for line in limits.splitlines() if line.startswith("Max open files")][0].split()
    assert files[3] == "1024" and files[4] == "1024", files


# Name, number on x86_64, number on aarch64, arguments.
FORBIDDEN = [
    ("ptrace", 101, 117), ("mount", 165, 40), ("umount2", 166, 39), ("pivot_root", 155, 41), ("reboot", 169, 142),
    ("init_module", 175, 105), ("finit_module", 313, 273), ("kexec_load", 246, 104), ("bpf", 321, 280),
    ("perf_event_open", 298, 241), ("unshare", 272, 97), ("setns", 308, 268), ("userfaultfd", 323, 282),
    ("process_vm_readv", 310, 270), ("keyctl", 250, 219), ("add_key", 248, 217), ("swapon", 167, 224),
    ("sethostname", 170, 161), ("open_by_handle_at", 304, 265), ("io_uring_setup", 425, 425), ("settimeofday", 164, 170),
]


def forbidden_calls_are_refused():
    import platform
    api = prepared()
    column = 1 if platform.machine() == "x86_64" else 2
    table = [[row[0], row[column]] for row in FORBIDDEN]
    got = probe(api, f"""[[name, ctypes.CDLL(None, use_errno=True).syscall(number, 0, 0, 0, 0, 0, 0), ctypes.get_errno()]
        for name, number in {table!r}]""")
    for name, result, code in got:
        # EPERM, ENOSYS or EACCES; what the kernel would say to wrong arguments
        # (EFAULT, EINVAL) means that the call was let in.
        assert result == -1 and code in (1, 38, 13), (name, result, code)
    new_user = probe(api, "[ctypes.CDLL(None, use_errno=True).unshare(0x10000000), ctypes.get_errno()]")
    assert new_user[0] == -1, new_user
    packet = probe(api, "attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).fileno())")
    assert "Error" in str(packet), packet
    # What functions are allowed still works.
    assert probe(api, "subprocess.run(['/bin/sh', '-c', 'echo $((6*7))'], capture_output=True, text=True).stdout") == "42\n"


def idle_functions_are_frozen():
    import time
    api = client()
    create(api, "f", """
import threading, time
ticks = 0
def tick():
    global ticks
    while True:
        time.sleep(0.01)
        ticks += 1
threading.Thread(target=tick, daemon=True).start()
def handler(event, context):
    return ticks
""")
    first = run(api, "f")
    time.sleep(2)
    second = run(api, "f")
    # Two seconds would be two hundred ticks; frozen, it is what fits around.
    assert second - first < 100, (first, second)


main(globals())
