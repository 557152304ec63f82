"""Extensions in layers: how they take part, what is logged of them, and what
their failures mean to callers."""

import io
import json
import os
import pathlib
import re
import time
import zipfile

from common import call, client, create, fail, main, run

ECHO = "def handler(event, context):\n    print('function at work')\n    return event\n"

AGENT = """#!/usr/bin/python3
import json, os, sys, time, urllib.request

BASE = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2020-01-01/extension"
NAME = os.path.basename(__file__)

def ask(method, path, headers, body=None):
    request = urllib.request.Request(BASE + path, body, headers, method=method)
    answer = urllib.request.urlopen(request)
    return answer.headers, answer.read()

def say(text):
    print(f"{NAME}: {text}", flush=True)

def register(events):
    headers, body = ask("POST", "/register",
                        {"Lambda-Extension-Name": NAME, "Lambda-Extension-Accept-Feature": "accountId"},
                        json.dumps({"events": events}).encode())
    say("registered " + body.decode())
    return {"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}

def next(me):
    return json.loads(ask("GET", "/event/next", me)[1])
"""

LOOP = AGENT + """
me = register(["INVOKE", "SHUTDOWN"])
say("without " + ",".join(sorted({"_HANDLER", "LAMBDA_TASK_ROOT", "AWS_EXECUTION_ENV"} - set(os.environ))))
while True:
    event = next(me)
    if event["eventType"] == "SHUTDOWN":
        left = event["deadlineMs"] / 1000 - time.time()
        say(f"shutdown {event['shutdownReason']} {0 < left <= 2}")
        sys.exit(0)
    say(f"invoke {event['requestId']} {event['invokedFunctionArn']} {event['deadlineMs'] > time.time() * 1000}")
    time.sleep(0.3)
    say("done")
"""


def layer(api, name, files, modes=None):
    """A published layer with these extensions; its ARN."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for file, content in files.items():
            info = zipfile.ZipInfo(f"extensions/{file}")
            info.external_attr = ((modes or {}).get(file, 0o755) | 0o100000) << 16
            archive.writestr(info, content)
    made = api.publish_layer_version(LayerName=name, Content={"ZipFile": out.getvalue()})
    return made["LayerVersionArn"]


def function(api, files, code=ECHO, modes=None, **more):
    """A function `f` with a layer of these extensions."""
    return create(api, "f", code, Layers=[layer(api, "extensions", files, modes)], **more)


def lines(name="f"):
    """All of the function's log, in order."""
    events, more = [], {}
    while True:
        page = client("logs").filter_log_events(logGroupName=f"/aws/lambda/{name}", **more)
        events += [event["message"].rstrip("\n") for event in page["events"]]
        if "nextToken" not in page:
            return events
        more = {"nextToken": page["nextToken"]}


def eventually(check, what):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: {lines()}")


def duration(log):
    return float(re.search(r"\tDuration: ([0-9.]+) ms", log)[1])


def take_away(api):
    """Has the environments of `f` end, by a change that makes them old."""
    api.update_function_configuration(FunctionName="f", Timeout=9)
    api.get_waiter("function_updated_v2").wait(FunctionName="f", WaiterConfig={"Delay": 0.05})
    run(api, "f", 1)


def an_extension_in_python_takes_part():
    api = client()
    function(api, {"agent": LOOP}, Timeout=5)
    answer = call(api, "f", {"n": 1})
    assert answer["Json"] == {"n": 1}
    again = call(api, "f", {"n": 2}, LogType="Tail")
    assert again["Json"] == {"n": 2}
    log = again["Log"]
    request = again["ResponseMetadata"]["RequestId"]
    assert f"agent: invoke {request} arn:aws:lambda:us-east-1:000000000000:function:f True\n" in log, log
    assert log.index("agent: done") < log.index("END RequestId"), log
    assert duration(log) >= 300, "the extension's time counts: " + log
    first = lines()
    assert "EXTENSION\tName: agent\tState: Ready\tEvents: [INVOKE, SHUTDOWN]" in first, first
    names = '{"accountId":"000000000000","functionName":"f","functionVersion":"$LATEST","handler":"app.handler"}'
    assert f"agent: registered {names}" in first, first
    assert "agent: without AWS_EXECUTION_ENV,LAMBDA_TASK_ROOT,_HANDLER" in first, first
    start = next(at for at, line in enumerate(first) if line.startswith("START"))
    assert first.index("EXTENSION\tName: agent\tState: Ready\tEvents: [INVOKE, SHUTDOWN]") < start

    take_away(api)
    eventually(lambda: "agent: shutdown spindown True" in lines(), "no shutdown")


SHELL = r"""#!/bin/bash
api=${AWS_LAMBDA_RUNTIME_API/:/\/}
ask() { # method, path, headers, body
  exec 3<>"/dev/tcp/$api" || exit 1
  printf '%s /2020-01-01/extension/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n%s' \
    "$1" "$2" "$3" "${#4}" "$4" >&3
  cat <&3
  exec 3>&-
}
answer=$(ask POST register $'Lambda-Extension-Name: shell.sh\r\n' '{"events":["INVOKE","SHUTDOWN"]}')
id=$(printf '%s' "$answer" | tr -d '\r' | sed -n 's/^Lambda-Extension-Identifier: //p')
echo "shell registered as ${#id} characters"
while :; do
  event=$(ask GET event/next "Lambda-Extension-Identifier: $id"$'\r\n' '')
  case $event in
    *'"eventType":"INVOKE"'*) echo "shell saw an invocation" ;;
    *'"eventType":"SHUTDOWN"'*) echo "shell saw the end"; exit 0 ;;
  esac
done
"""


def an_extension_in_shell_takes_part():
    api = client()
    function(api, {"shell.sh": SHELL})
    log = call(api, "f", 1, LogType="Tail")["Log"]
    assert "shell registered as 36 characters\n" in log, log
    assert "EXTENSION\tName: shell.sh\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\n" in log, log
    assert "shell saw an invocation\n" in log, log
    take_away(api)
    eventually(lambda: "shell saw the end" in lines(), "no shutdown")


INTERNAL = """
import json, os, signal, sys, threading, urllib.request

BASE = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2020-01-01/extension"
seen = []

def ask(method, path, headers, body=None):
    return urllib.request.urlopen(urllib.request.Request(BASE + path, body, headers, method=method))

def stop(signal, frame):
    print("terminated with", len(seen), flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
answer = ask("POST", "/register", {"Lambda-Extension-Name": "inside"}, b'{"events":["INVOKE"]}')
me = {"Lambda-Extension-Identifier": answer.headers["Lambda-Extension-Identifier"]}

def follow():
    while True:
        seen.append(json.loads(ask("GET", "/event/next", me).read())["requestId"])

threading.Thread(target=follow, daemon=True).start()

def handler(event, context):
    import time
    until = time.monotonic() + 5
    while context.aws_request_id not in seen and time.monotonic() < until:
        time.sleep(0.01)
    return context.aws_request_id in seen
"""


def an_internal_extension_registers_from_the_function():
    api = client()
    create(api, "f", INTERNAL, Timeout=8)
    answer = call(api, "f", LogType="Tail")
    assert answer["Json"] is True, answer
    assert "EXTENSION\tName: inside\tState: Ready\tEvents: [INVOKE]\n" in answer["Log"], answer["Log"]
    assert run(api, "f") is True
    take_away(api)
    eventually(lambda: any(line.startswith("terminated with 2") for line in lines()), "no SIGTERM")


def json_logs_say_the_same_in_records():
    api = client()
    function(api, {"agent": LOOP}, LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "DEBUG"})
    log = call(api, "f", 1, LogType="Tail")["Log"]
    records = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    named = {record["type"]: record["record"] for record in records if "record" in record}
    expected = {"name": "agent", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}
    assert named["platform.extension"] == expected, log
    [overhead] = named["platform.report"]["spans"]
    assert overhead["name"] == "extensionOverhead" and overhead["durationMs"] > 0, log
    spans = [span["name"] for span in named["platform.runtimeDone"]["spans"]]
    assert spans == ["responseLatency", "responseDuration", "runtimeOverhead"], log
    took = named["platform.report"]["metrics"]["durationMs"]
    assert took >= 300 and took > named["platform.runtimeDone"]["metrics"]["durationMs"], log


def what_cannot_start_is_a_launch_error():
    api = client()
    for files, modes, why, kind in [
        ({"plain": "#!/bin/sh\n"}, {"plain": 0o644}, "plain: permission denied", "PermissionDenied"),
        ({"odd": b"\x01\x02\x03"}, None, "odd: exec format error", "UnknownError"),
    ]:
        function(api, files, modes=modes)
        answer = call(api, "f", 1, LogType="Tail")
        assert answer["FunctionError"] == "Unhandled"
        request = answer["ResponseMetadata"]["RequestId"]
        assert answer["Json"] == {
            "errorType": "Extension.LaunchError",
            "errorMessage": f"RequestId: {request} Error: fork/exec /opt/extensions/{why}"}, answer
        log = answer["Log"]
        name = next(iter(files))
        line = f"EXTENSION\tName: {name}\tState: LaunchError\tEvents: []\tError Type: {kind}\n"
        assert line in log, log
        assert log.endswith("Status: error\tError Type: Extension.LaunchError\n"), log
        api.delete_function(FunctionName="f")

    function(api, {f"agent-{count}": "#!/bin/sh\nsleep 1000\n" for count in range(11)})
    assert fail(api, "f")["errorType"] == "Extension.LaunchError"


CRASHES = AGENT + """
me = register(["INVOKE"])
event = next(me)
if not os.path.exists("/tmp/crashed"):
    open("/tmp/crashed", "w").close()
    os._exit(3)
while True:
    next(me)
"""

SLOW = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n"


def an_extension_that_ends_fails_the_call_and_starts_again():
    api = client()
    function(api, {"agent": CRASHES}, SLOW, Timeout=8)
    answer = call(api, "f", 3)
    assert answer["Json"]["errorType"] == "Extension.Crash", answer
    assert answer["Json"]["errorMessage"].endswith("Error: exit status 3"), answer
    # /tmp is kept, the extension is started again inside the next call.
    answer = call(api, "f", 0.1, LogType="Tail")
    assert answer["Json"] == 0.1, answer
    assert "EXTENSION\tName: agent\tState: Ready\tEvents: [INVOKE]\n" in answer["Log"], answer["Log"]

    api.delete_function(FunctionName="f")
    ends = AGENT + """
me = register([])
ask("POST", "/init/error", me | {"Lambda-Extension-Function-Error-Type": "Extension.NoKey"}, b"")
sys.exit(1)
"""
    function(api, {"agent": ends})
    answer = call(api, "f", 1, LogType="Tail")
    assert answer["Json"]["errorType"] == "Extension.InitError", answer
    line = "EXTENSION\tName: agent\tState: InitError\tEvents: []\tError Type: Extension.NoKey\n"
    assert line in answer["Log"], answer["Log"]


HANGS = AGENT + """
me = register(["INVOKE", "SHUTDOWN"])
next(me)
if not os.path.exists("/tmp/hung"):
    open("/tmp/hung", "w").close()
    time.sleep(1000)
while next(me)["eventType"] == "INVOKE":
    pass
"""


def an_extension_that_never_comes_back_costs_the_timeout():
    api = client()
    function(api, {"agent": HANGS}, Timeout=1)
    # The answer was there before the time was over, so it stands.
    assert run(api, "f", {"n": 1}) == {"n": 1}
    reports = eventually(
        lambda: [line for line in lines() if line.startswith("REPORT")], "no report")
    assert reports[0].endswith("Status: timeout"), reports
    assert "Duration: 1000.00 ms" in reports[0], reports
    assert run(api, "f", {"n": 2}) == {"n": 2}


def an_extension_that_never_registers_costs_init_and_call():
    api = client()
    function(api, {"agent": "#!/bin/sh\nsleep 1000\n"}, Timeout=2)
    answer = call(api, "f", 1)
    assert answer["Json"]["errorType"] == "Sandbox.Timedout", answer
    log = eventually(lambda: [line for line in lines() if "Phase: invoke" in line], "no report")
    assert "Status: timeout" in log[0], log
    assert any("Phase: init\tStatus: timeout" in line for line in lines()), lines()


HOSTILE = AGENT + r"""
import socket, threading
me = register(["INVOKE"])
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
address = (host, int(port))

def refused(method, path, headers, body=b"{}", base=BASE):
    request = urllib.request.Request(base + path, body, headers, method=method)
    try:
        urllib.request.urlopen(request)
        return "taken"
    except urllib.error.HTTPError as error:
        return json.loads(error.read())["errorType"]

say(refused("POST", "/register", {"Lambda-Extension-Name": NAME}))
say(refused("POST", "/register", {"Lambda-Extension-Name": "x" * 1000}))
say(refused("GET", "/event/next", {"Lambda-Extension-Identifier": "nonsense"}, None))
sink = socket.socket()
sink.bind(("127.0.0.1", 0))
sink.listen(1)
body = json.dumps({"schemaVersion": "2022-12-13", "types": ["platform", "function", "extension"],
    "buffering": {"timeoutMs": 25},
    "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{sink.getsockname()[1]}"}})
base = f"http://{host}:{port}/2022-07-01"
answers = [refused("PUT", "/telemetry", me, body.encode(), base) for _ in range(50)]
say(f"{answers.count('taken')} subscriptions, then {answers[-1]}")

def garbage():
    while True:
        try:
            with socket.create_connection(address) as one:
                one.sendall(os.urandom(4096))
                one.sendall(b"POST /2020-01-01/extension/register HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n")
        except OSError:
            pass

for _ in range(4):
    threading.Thread(target=garbage, daemon=True).start()
while True:
    next(me)
    print("y" * 200_000, flush=True)
"""


def hostile_extensions_harm_only_their_function():
    api = client()
    function(api, {"agent": HOSTILE}, Timeout=9)
    create(api, "other", ECHO)
    for count in range(5):
        assert run(api, "f", {"n": count}) == {"n": count}
        assert run(api, "other", count or 7) == (count or 7)
    said = lines()
    for expected in ["Extension.InvalidExtensionState", "Extension.InvalidExtensionName",
                     "Extension.InvalidExtensionIdentifier",
                     "8 subscriptions, then Telemetry.SubscriptionClosed"]:
        assert f"agent: {expected}" in said, (expected, said[:40])
    subscribed = "TELEMETRY\tName: agent\tState: Subscribed\tTypes: [Platform, Function, Extension]"
    assert said.count(subscribed) == 8, said.count(subscribed)


TELLS = AGENT + """
me = register(["INVOKE", "SHUTDOWN"])
while True:
    event = next(me)
    if event["eventType"] == "SHUTDOWN":
        say("shutdown " + event["shutdownReason"])
        sys.exit(0)
"""


def a_failed_call_is_told_as_such():
    api = client()
    code = ("import os, time\ndef handler(event, context):\n"
            "    if event == 'crash':\n        os._exit(5)\n"
            "    if event == 'hang':\n        time.sleep(60)\n    return event\n")
    function(api, {"agent": TELLS}, code, Timeout=2)
    assert fail(api, "f", "crash")["errorType"] == "Runtime.ExitError"
    eventually(lambda: "agent: shutdown failure" in lines(), "no word of the failure")
    assert fail(api, "f", "hang")["errorType"] == "Sandbox.Timedout"
    eventually(lambda: "agent: shutdown timeout" in lines(), "no word of the timeout")
    assert run(api, "f", "well") == "well"


def stock_rust_extensions():
    api = client()
    programs = pathlib.Path(os.environ["LAMU_TEST_EXTENSIONS"])
    files = {name: (programs / name).read_bytes() for name in ("events", "telemetry", "logs")}
    layers = [layer(api, name, {name: content}) for name, content in files.items()]
    create(api, "f", ECHO, Layers=layers, Timeout=9)
    answer = call(api, "f", {"n": 1}, LogType="Tail")
    assert answer["Json"] == {"n": 1}, answer
    first = answer["ResponseMetadata"]["RequestId"]
    assert run(api, "f", {"n": 2}) == {"n": 2}
    take_away(api)
    said = eventually(lambda: (found := lines()) and "events: shutdown spindown" in found and found,
                      "no end")
    for expected in [
        "EXTENSION\tName: events\tState: Ready\tEvents: [INVOKE, SHUTDOWN]",
        "TELEMETRY\tName: telemetry\tState: Subscribed\tTypes: [Platform, Function]",
        "LOGS\tName: logs\tState: Subscribed\tTypes: [Platform, Function]",
        f"events: invoke {first}",
        "telemetry: platform.initStart",
        "telemetry: platform.telemetrySubscription",
        "telemetry: platform.extension",
        "telemetry: platform.initRuntimeDone",
        "telemetry: platform.initReport",
        "telemetry: platform.start",
        "telemetry: function function at work",
        f"telemetry: runtimeDone {first} Success Some(8)",
        "logs: subscription logs",
        f"logs: start {first}",
        "logs: function function at work",
        "logs: runtimeDone success",
        f"logs: end {first}",
        "logs: report 128 MB",
    ]:
        assert expected in said, (expected, said)
    assert any(line.startswith(f"telemetry: report {first} ") for line in said), said


main(globals())
