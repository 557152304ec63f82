"""Streamed responses: through boto3, through the JavaScript SDK, and byte by
byte where a client must misbehave."""

import base64
import hashlib
import http.client
import json
import os
import pathlib
import subprocess
import time
import urllib.request

from botocore.eventstream import EventStreamBuffer

from common import ROOT, call, client, create, fail, main, pack, refused, run, zip_of

NODE = "nodejs20.x"
LIMIT = 200 * 1024 * 1024

# What the event says, piece by piece.
STREAMER = """
const { createHash } = require('crypto');
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
let calls = 0;
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
  calls += 1;
  if (event.prelude) stream = awslambda.HttpResponseStream.from(stream, event.prelude);
  if (event.type) stream.setContentType(event.type);
  if (event.throws === 'first') throw new TypeError('before the first byte');
  for (const piece of event.pieces || []) {
    stream.write(piece);
    await sleep(event.pause || 0);
  }
  if (event.megabytes) {
    const hash = createHash('sha256');
    let waits = 0;
    for (let at = 0; at < event.megabytes * 16; at++) {
      const piece = Buffer.alloc(65536, at % 251);
      hash.update(piece);
      if (!stream.write(piece)) {
        waits += 1;
        await new Promise((done) => stream.once('drain', done));
      }
    }
    console.log('sha256', hash.digest('hex'), 'waits', waits);
  }
  if (event.throws === 'half way') throw new TypeError('half way');
  if (event.throws === 'uncaught') {
    setTimeout(() => { throw new RangeError('nobody catches'); }, 1);
    await sleep(100000);
  }
  if (event.throws === 'late') stream.setContentType('text/late');
  if (event.exits) process.exit(event.exits);
  if (event.hangs) await sleep(100000);
  console.log('the end of call', calls);
  if (event.forgets) return;
  stream.end(event.last);
});
"""

# A runtime of its own: raw HTTP, no library. The event is a list of what to
# send, byte for byte.
RAW = '''#!/usr/bin/python3 -u
import json, os, socket, time
host, port = os.environ['AWS_LAMBDA_RUNTIME_API'].split(':')
def connect():
    c = socket.create_connection((host, int(port)))
    return c, c.makefile('rb')
def answer(f):
    status = int(f.readline().split()[1])
    headers = {}
    while (line := f.readline().strip()):
        name, value = line.decode().split(': ', 1)
        headers[name.lower()] = value
    return status, headers, f.read(int(headers.get('content-length', 0)))
while True:
    c, f = connect()
    c.sendall(b'GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
    _, headers, event = answer(f)
    event, id = json.loads(event), headers['lambda-runtime-aws-request-id']
    c.sendall(f'POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\\r\\nHost: x\\r\\n'
              'Lambda-Runtime-Function-Response-Mode: streaming\\r\\n'
              'Content-Type: text/raw\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n'.encode())
    for part in event['send']:
        c.sendall(part.encode())
    if event.get('cut'):
        f.close(); c.close()
    else:
        print('answered', *answer(f))
'''


def streamer(api, name="f", **more):
    create(api, name, pack({"app.js": STREAMER}), runtime=NODE, MemorySize=512,
           **{"Timeout": 30, **more})


def stream(api, name, event, **more):
    """Chunks, and what InvokeComplete said."""
    answer = api.invoke_with_response_stream(
        FunctionName=name, Payload=json.dumps(event), **more)
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST", answer
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    events = list(answer["EventStream"])
    assert "InvokeComplete" in events[-1], events[-1]
    complete = events.pop()["InvokeComplete"]
    return [event["PayloadChunk"]["Payload"] for event in events], complete


def tail(complete):
    return base64.b64decode(complete["LogResult"]).decode()


def metric(name):
    text = urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + "/metrics").read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def busy():
    return metric('lamu_environments{state="busy"}')


def eventually(what, holds):
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until, f"never happened: {what}"
        time.sleep(0.02)


def pieces_arrive_before_the_end():
    api = client()
    streamer(api)
    answer = api.invoke_with_response_stream(
        FunctionName="f", Payload=json.dumps({"pieces": ["one", "two"], "pause": 300}))
    events = iter(answer["EventStream"])
    assert next(events)["PayloadChunk"]["Payload"] == b"one"
    assert busy() == 1, "the function still runs"
    assert next(events)["PayloadChunk"]["Payload"] == b"two"
    assert next(events) == {"InvokeComplete": {}}
    assert list(events) == []
    assert b"".join(stream(api, "f", {"pieces": ["a", "b"], "last": "c"})[0]) == b"abc"
    assert stream(api, "f", {}) == ([], {}), "an empty stream"
    assert b"".join(stream(api, "f", {"pieces": [{"an": "object"}]})[0]) == b'{"an":"object"}'
    assert stream(api, "f", {"pieces": ["a"], "forgets": True})[0] == [b"a"], "ended for it"


def http_responses_carry_their_prelude():
    api = client()
    streamer(api)
    prelude = {"statusCode": 201, "headers": {"x": "y"}, "cookies": ["a=b"]}
    for event in [{"pieces": ["bo", "dy"]}, {"last": "body"}]:
        chunks, complete = stream(api, "f", {"prelude": prelude, **event})
        head, body = b"".join(chunks).split(b"\0" * 8)
        assert json.loads(head) == prelude and body == b"body" and complete == {}
    assert b"".join(stream(api, "f", {"prelude": {}})[0]) == b"{}" + b"\0" * 8


def functions_that_do_not_stream():
    api = client()
    create(api, "f", "def handler(event, context):\n    print('seen')\n    if event == 'fail': raise KeyError('k')\n    return event if event else 'x' * 3000000\n")
    chunks, complete = stream(api, "f", {"k": ["ü"]}, LogType="Tail")
    assert json.loads(b"".join(chunks)) == {"k": ["ü"]}
    log = tail(complete)
    assert "START RequestId" in log and "seen" in log and "REPORT RequestId" in log, log
    chunks, complete = stream(api, "f", {})
    assert len(chunks) > 1 and len(b"".join(chunks)) == 3000002 and complete == {}
    chunks, complete = stream(api, "f", "fail")
    assert chunks == [] and complete["ErrorCode"] == "Unhandled", complete
    assert json.loads(complete["ErrorDetails"])["errorType"] == "KeyError"
    chunks, complete = stream(api, "f", "x" * 6_000_000)
    assert sum(map(len, chunks)) == 6_000_002


def errors_before_and_half_way():
    api = client()
    streamer(api, Timeout=3)
    chunks, complete = stream(api, "f", {"throws": "first"})
    assert chunks == [] and complete["ErrorCode"] == "Unhandled"
    error = json.loads(complete["ErrorDetails"])
    assert (error["errorType"], error["errorMessage"]) == ("TypeError", "before the first byte")

    chunks, complete = stream(api, "f", {"pieces": ["half"], "throws": "half way"}, LogType="Tail")
    assert chunks == [b"half"] and complete["ErrorCode"] == "Unhandled"
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "half way"
    assert "Invoke Error" in tail(complete)
    chunks, complete = stream(api, "f", {"pieces": ["half"], "throws": "late"})
    assert json.loads(complete["ErrorDetails"])["errorType"] == "InvalidStreamingOperation"
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "Cannot set content-type, too late."
    # The same process serves on.
    assert "the end of call 4" in tail(stream(api, "f", {"last": "x"}, LogType="Tail")[1])

    chunks, complete = stream(api, "f", {"pieces": ["half"], "throws": "uncaught"})
    assert chunks == [b"half"] and complete["ErrorCode"] == "Unhandled", complete
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "nobody catches"
    assert stream(api, "f", {"last": "again"})[0] == [b"again"]


def timeouts_and_crashes_half_way():
    api = client()
    streamer(api, Timeout=2)
    chunks, complete = stream(api, "f", {"pieces": ["half"], "hangs": True}, LogType="Tail")
    assert chunks == [b"half"] and complete["ErrorCode"] == "Sandbox.Timedout", complete
    assert json.loads(complete["ErrorDetails"])["errorMessage"].endswith(
        "Error: Task timed out after 2.00 seconds")
    assert "Status: timeout" in tail(complete)
    chunks, complete = stream(api, "f", {"pieces": ["half"], "exits": 3}, LogType="Tail")
    assert chunks == [b"half"] and complete["ErrorCode"] == "Runtime.ExitError", complete
    error = json.loads(complete["ErrorDetails"])
    assert error["errorMessage"].endswith("Error: Runtime exited with error: exit status 3"), error
    assert "Error Type: Runtime.ExitError" in tail(complete)
    assert stream(api, "f", {"last": "again"})[0] == [b"again"]
    eventually("nothing runs", lambda: busy() == 0)


def two_hundred_megabytes_and_not_one_more():
    api = client()
    streamer(api, Timeout=120)
    answer = api.invoke_with_response_stream(
        FunctionName="f", Payload=json.dumps({"megabytes": 200}), LogType="Tail")
    count, digest, before = 0, hashlib.sha256(), resident_kib()
    for event in answer["EventStream"]:
        if "InvokeComplete" in event:
            complete = event["InvokeComplete"]
            break
        payload = event["PayloadChunk"]["Payload"]
        count += len(payload)
        digest.update(payload)
    assert count == LIMIT and "ErrorCode" not in complete, (count, complete)
    assert f"sha256 {digest.hexdigest()}" in tail(complete)
    grown = resident_kib() - before
    assert grown < 32 * 1024, f"lamu grew by {grown} KiB"

    count = 0
    for event in api.invoke_with_response_stream(
            FunctionName="f", Payload=json.dumps({"megabytes": 201}), LogType="Tail")["EventStream"]:
        count += len(event.get("PayloadChunk", {}).get("Payload", b""))
    complete = event["InvokeComplete"]
    assert count == LIMIT, count
    assert complete["ErrorCode"] == "Function.ResponseSizeTooLarge", complete
    assert json.loads(complete["ErrorDetails"]) == {
        "errorMessage": "Response payload size exceeded maximum allowed payload size (209715200 bytes).",
        "errorType": "Function.ResponseSizeTooLarge"}
    assert "the end of call 2" in tail(complete), "the function went on to its end"


def resident_kib():
    status = pathlib.Path(f"/proc/{os.environ['LAMU_TEST_PID']}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


def post(event, name="f", **headers):
    """A client that reads as it likes."""
    connection = http.client.HTTPConnection(os.environ["AWS_ENDPOINT_URL"].split("//")[1], timeout=60)
    connection.request(
        "POST", f"/2021-11-15/functions/{name}/response-streaming-invocations",
        json.dumps(event), headers)
    return connection, connection.getresponse()


def slow_readers_slow_the_function():
    api = client()
    streamer(api, Timeout=120)
    run_whole(api)
    before = resident_kib()
    connection, answer = post({"megabytes": 100}, **{"X-Amz-Log-Type": "Tail"})
    assert answer.status == 200
    buffer = EventStreamBuffer()
    buffer.add_data(answer.read(70000))
    # While nobody reads, nothing gathers.
    for _ in range(10):
        time.sleep(0.1)
        grown = resident_kib() - before
        assert grown < 16 * 1024, f"lamu holds {grown} KiB for a reader that sleeps"
    assert busy() == 1
    count, digest = 0, hashlib.sha256()
    while True:
        for event in buffer:
            if event.headers[":event-type"] == "PayloadChunk":
                count += len(event.payload)
                digest.update(event.payload)
            else:
                complete = json.loads(event.payload)
        if not (data := answer.read(1 << 16)):
            break
        buffer.add_data(data)
    assert count == 100 << 20
    log = tail(complete)
    assert f"sha256 {digest.hexdigest()}" in log, log
    waits = int(log.split(" waits ")[1].split()[0])
    assert waits > 100, f"the function was held back {waits} times"
    grown = resident_kib() - before
    assert grown < 16 * 1024, f"lamu grew by {grown} KiB"


def run_whole(api):
    """So that what is compared later is warm."""
    assert sum(map(len, stream(api, "f", {"megabytes": 8})[0])) == 8 << 20


def readers_that_hang_up():
    api, logs = client(), client("logs")
    streamer(api, Timeout=60)
    connection, answer = post({"pieces": ["first"], "megabytes": 50})
    request = answer.getheader("x-amzn-requestid")
    answer.read(100)
    answer.close()
    connection.close()

    def messages():
        found = logs.filter_log_events(logGroupName="/aws/lambda/f")["events"]
        return [event["message"] for event in found]

    eventually("the function ends", lambda: any("REPORT RequestId: " + request in line for line in messages()))
    assert any("the end of call 1" in line for line in messages()), "it ran on to its end"
    assert not any("Status: " in line for line in messages()), "and ended well"
    eventually("nothing runs", lambda: busy() == 0)
    # The environment is as good as new.
    assert "the end of call 2" in tail(stream(api, "f", {"last": "x"}, LogType="Tail")[1])


def invoke_collects():
    api = client()
    streamer(api)
    answer = call(api, "f", {"pieces": ["[1", ",2"], "last": "]", "pause": 5}, LogType="Tail")
    assert answer["Json"] == [1, 2] and "FunctionError" not in answer
    assert "the end of call 1" in answer["Log"]
    error = fail(api, "f", {"pieces": ["half"], "throws": "half way"})
    assert error["errorMessage"] == "half way"
    error = fail(api, "f", {"megabytes": 7})
    assert error["errorType"] == "Function.ResponseSizeTooLarge", error
    assert error["errorMessage"].endswith("(6291556 bytes).")
    assert run(api, "f", {"pieces": ["[2", "]"]}) == [2]


def what_is_refused_is_refused_at_once():
    api = client()
    streamer(api)
    dry = api.invoke_with_response_stream(FunctionName="f", InvocationType="DryRun")
    assert dry["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused("ResourceNotFoundException", 404, "function:nobody:$LATEST"):
        api.invoke_with_response_stream(FunctionName="nobody")
    with refused("InvalidRequestContentException", 400, "Could not parse request body into json"):
        api.invoke_with_response_stream(FunctionName="f", Payload=b"{")
    with refused("RequestTooLargeException", 413, "Request must be smaller than 6291456 bytes"):
        api.invoke_with_response_stream(FunctionName="f", Payload=b'"' + b"x" * 6291456 + b'"')
    api.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    with refused("TooManyRequestsException", 429):
        api.invoke_with_response_stream(FunctionName="f")
    assert metric("lamu_worker_invocations_total") == 0


def runtimes_of_their_own():
    api = client()
    create(api, "f", pack({"bootstrap": RAW}), runtime="provided.al2023", Timeout=5)
    sent = {"send": ["3\r\nabc\r\n", "2\r\nde\r\n", "0\r\n\r\n"]}
    chunks, complete = stream(api, "f", sent, LogType="Tail")
    assert b"".join(chunks) == b"abcde"
    assert "answered 202" in tail(complete), tail(complete)
    body = base64.b64encode(b'{"errorType":"Function.Late","errorMessage":"late"}').decode()
    sent["send"][2] = ("0\r\nLambda-Runtime-Function-Error-Type: Function.Late\r\n"
                       f"Lambda-Runtime-Function-Error-Body: {body}\r\n\r\n")
    chunks, complete = stream(api, "f", sent)
    assert b"".join(chunks) == b"abcde" and complete["ErrorCode"] == "Function.Late", complete
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "late"
    assert fail(api, "f", sent)["errorMessage"] == "late", "and for one who takes no stream"
    chunks, complete = stream(api, "f", {"send": ["3\r\nabc\r\n"], "cut": True})
    assert chunks == [b"abc"] and complete["ErrorCode"] == "Runtime.TruncatedResponse", complete
    answer = call(api, "f", {"send": ["3\r\n123\r\n", "0\r\n\r\n"]})
    assert answer["Json"] == 123
    assert answer["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "text/raw"


def stock_node_client():
    modules = pathlib.Path(ROOT, "target/npm/node_modules")
    bootstrap = "#!/bin/sh\nexec /usr/bin/node /var/task/node_modules/aws-lambda-ric/bin/index.mjs \"$_HANDLER\"\n"
    code = zip_of((modules, "node_modules/"), app__js=STREAMER, bootstrap=bootstrap)
    api = client()
    create(api, "f", code, runtime="provided.al2023", MemorySize=512, Timeout=30)
    chunks, complete = stream(api, "f", {"pieces": ["one", "two"], "pause": 20}, LogType="Tail")
    assert b"".join(chunks) == b"onetwo" and "ErrorCode" not in complete, complete
    chunks, complete = stream(api, "f", {"prelude": {"statusCode": 201}, "pieces": ["body"]})
    assert b"".join(chunks) == b'{"statusCode":201}' + b"\0" * 8 + b"body"
    chunks, complete = stream(api, "f", {"pieces": ["half"], "throws": "half way"})
    assert chunks == [b"half"] and json.loads(complete["ErrorDetails"])["errorMessage"] == "half way"
    assert sum(map(len, stream(api, "f", {"megabytes": 20})[0])) == 20 << 20


def stock_rust_client():
    api = client()
    chunks, complete = stream(api, "stream-rust", {"until": 50_000})
    # The client always sends a prelude.
    prelude, body = b"".join(chunks).split(b"\0" * 8)
    assert json.loads(prelude)["statusCode"] == 200, prelude
    lines = body.decode().split()
    assert lines == [str(number) for number in range(1, 50_001)], (len(lines), complete)
    assert complete == {}, complete
    chunks, complete = stream(api, "stream-rust", {})
    assert chunks == [] and "how far?" in complete["ErrorDetails"], complete
    answer = api.invoke(FunctionName="stream-rust", Payload=b'{"until": 3}')
    assert answer["Payload"].read().endswith(b"\0" * 8 + b"1\n2\n3\n")


def the_rate_of_lambda():
    """The burst, then 2 MiB a second: never faster. What is under way when
    the function ends leaves with it, so a second's worth is left out."""
    api = client()
    streamer(api, Timeout=60)
    begun = time.monotonic()
    assert sum(map(len, stream(api, "f", {"megabytes": 9})[0])) == 9 << 20
    assert time.monotonic() - begun > (9 - 6) / 2 - 0.5
    # Each response has a burst of its own.
    begun = time.monotonic()
    assert sum(map(len, stream(api, "f", {"megabytes": 5})[0])) == 5 << 20


def javascript_sdk():
    api = client()
    streamer(api, Timeout=5)
    create(api, "whole", "def handler(event, context):\n    return event\n")
    modules = pathlib.Path(ROOT, "target/npm-sdk/node_modules")
    assert modules.exists(), "the JavaScript SDK is missing: run scripts/setup-tests"
    script = pathlib.Path(__file__).parent.parent / "js" / "streaming.cjs"
    done = subprocess.run(
        ["node", str(script)], env={**os.environ, "NODE_PATH": str(modules)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all as promised\n"), done.stdout


if __name__ == "__main__":
    main(globals())
