"""Function URLs with InvokeMode RESPONSE_STREAM, as HTTP clients see them."""

import hashlib
import http.client
import json
import socket
import subprocess
import time
import urllib.parse

from common import client, create, main, pack
from streaming import NODE, STREAMER, busy, eventually, resident_kib
from urls import ARN, LISTENER, fetch, order, path_form, signed

KIND = "application/vnd.awslambda.http-integration-response"
END = "\0" * 8
# The order comes in the request's body.
OBEY = """
const { handler } = require('./streamer.js');
exports.handler = awslambda.streamifyResponse((event, stream, context) =>
  handler(JSON.parse(event.body || '{}'), stream, context));
"""


def made(api, name="f", **more):
    create(api, name, pack({"app.js": OBEY, "streamer.js": STREAMER}), runtime=NODE,
           MemorySize=512, **{"Timeout": 30, **more})
    url = api.create_function_url_config(
        FunctionName=name, AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    assert url["InvokeMode"] == "RESPONSE_STREAM", url
    return url["FunctionUrl"]


def open_to(url, what, method="POST", connection=None):
    """A client that reads as it likes."""
    parts = urllib.parse.urlsplit(url)
    connection = connection or http.client.HTTPConnection(
        LISTENER.hostname, LISTENER.port, timeout=60)
    connection.request(method, parts.path, json.dumps(what),
                       {"Host": parts.netloc, "Content-Type": "application/json"})
    return connection, connection.getresponse()


def broken(url, what):
    """Status, and what came of a body that did not end."""
    connection, answer = open_to(url, what)
    try:
        answer.read()
    except http.client.IncompleteRead as error:
        return answer.status, error.partial
    raise AssertionError("the body ended as if it were whole")


def failed(url, what):
    answer = order(url, what)
    assert (answer.status, answer.data) == (502, b"Internal Server Error"), (what, answer.data)
    assert answer.headers["set-cookie"] is None and answer.headers["content-length"] == "21"


def modes_are_configured_and_changed():
    api = client()
    url = made(api)
    for answer in (api.get_function_url_config(FunctionName="f"),
                   api.list_function_url_configs(FunctionName="f")["FunctionUrlConfigs"][0]):
        assert answer["InvokeMode"] == "RESPONSE_STREAM" and answer["FunctionArn"] == ARN + "f"
    assert order(url, {"pieces": ["not", " json"]}).data == b"not json"
    changed = api.update_function_url_config(FunctionName="f", InvokeMode="BUFFERED")
    assert changed["InvokeMode"] == "BUFFERED"
    answer = order(url, {"pieces": ['{"statusCode":', '202,"body":"b"}']})
    assert (answer.status, answer.data) == (202, b"b"), "what is buffered is read as before"
    assert answer.headers["content-length"] == "1"
    changed = api.update_function_url_config(FunctionName="f", InvokeMode="RESPONSE_STREAM")
    assert changed["InvokeMode"] == "RESPONSE_STREAM" and changed["AuthType"] == "NONE"
    changed = api.update_function_url_config(FunctionName="f", Cors={"AllowOrigins": ["*"]})
    assert changed["InvokeMode"] == "RESPONSE_STREAM", changed


def preludes_become_heads():
    api = client()
    url = made(api)
    prelude = {"statusCode": 201, "cookies": ["a=b; HttpOnly", "c=d"],
               "headers": {"Content-Type": "text/html", "X-Own": "1", "Date": "then",
                           "Content-Length": "3", "Transfer-Encoding": "identity",
                           "Connection": "close", "X-Amzn-RequestId": "mine"},
               "multiValueHeaders": {"X-Multi": ["1", "2"]}}
    for what in ({"pieces": ["bo", "dy"]}, {"last": "body"}):
        answer = order(url, {"prelude": prelude, **what})
        assert (answer.status, answer.data) == (201, b"body")
        assert answer.headers.get_all("set-cookie") == ["a=b; HttpOnly", "c=d"]
        assert answer.headers.get_all("x-multi") == ["1", "2"]
        assert answer.headers["content-type"] == "text/html" and answer.headers["x-own"] == "1"
        assert answer.headers["x-amzn-remapped-date"] == "then"
        assert answer.headers["x-amzn-remapped-content-length"] == "3"
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.headers["content-length"] is None
        assert len(answer.headers["x-amzn-requestid"]) == 36
        assert answer.headers["x-amzn-trace-id"].startswith("root=1-")
    answer = order(url, {"prelude": {}})
    assert (answer.status, answer.data) == (200, b"")
    assert answer.headers["content-type"] == "application/octet-stream"
    # In whatever pieces it comes.
    text = json.dumps({"statusCode": 203, "headers": {"x": "ü"}}) + END + "\0\0body"
    for size in (1, 7, 1000):
        pieces = [text[at:at + size] for at in range(0, len(text), size)]
        answer = order(url, {"type": KIND, "pieces": pieces})
        assert (answer.status, answer.data) == (203, b"\0\0body"), (size, answer.data)
        assert answer.headers["x"].encode("latin-1").decode() == "ü"


def heads_and_pieces_come_at_once():
    api = client()
    url = made(api)
    connection, answer = open_to(url, {
        "type": KIND, "pieces": ['{"statusCode":202}' + END, "one", "two"], "pause": 300})
    assert answer.status == 202 and busy() == 1, "the head came, and the function runs"
    assert answer.read(3) == b"one" and busy() == 1
    assert answer.read() == b"two"
    connection, answer = open_to(url, {"pieces": ["one", "two"], "pause": 300}, connection=connection)
    assert answer.read(3) == b"one" and busy() == 1
    assert answer.read() == b"two"


def without_a_prelude_every_byte_is_body():
    api = client()
    url = made(api)
    answer = order(url, {"pieces": ["<p>", "hi"], "type": "text/html"})
    assert (answer.status, answer.data) == (200, b"<p>hi")
    assert answer.headers["content-type"] == "text/html"
    answer = order(url, {"pieces": ['{"statusCode":404}' + END + "x"]})
    assert (answer.status, answer.data) == (200, b'{"statusCode":404}' + END.encode() + b"x")
    assert answer.headers["content-type"] == "application/octet-stream"
    answer = order(url, {})
    assert (answer.status, answer.data) == (200, b"")
    assert order(url, {"type": "a\r\nset-cookie: b=c", "last": "x"}).headers["set-cookie"] is None

    create(api, "g", "import base64, json\ndef handler(event, context):\n"
                     "    order = json.loads(event.get('body') or 'null')\n"
                     "    if order == 'raise': raise ValueError('boom')\n"
                     "    return order\n")
    whole = api.create_function_url_config(
        FunctionName="g", AuthType="NONE", InvokeMode="RESPONSE_STREAM")["FunctionUrl"]
    for returned in ({"statusCode": 404, "body": "x"}, "text", [1], None):
        answer = order(whole, returned)
        assert (answer.status, json.loads(answer.data)) == (200, returned), answer.data
        assert answer.headers["content-type"] == "application/json"
    assert len(order(whole, "x" * 5_000_000).data) == 5_000_002
    failed(whole, "raise")


def failures_before_the_first_byte_are_bad_gateways():
    api = client()
    url = made(api, Timeout=2)
    for what in ({"throws": "first"}, {"exits": 3}, {"hangs": True},
                 {"prelude": {"statusCode": 101}, "last": "x"},
                 {"prelude": {"headers": {"x": "a\r\nset-cookie: b=c"}}, "last": "x"},
                 {"prelude": {"headers": {"x": [{}]}}, "last": "x"},
                 {"prelude": {"cookies": ["a=b\r\n\r\nHTTP/1.1 200 OK"]}, "last": "x"},
                 {"prelude": {"headers": {f"x-{i}": "1" for i in range(1000)}}, "last": "x"},
                 {"type": KIND}, {"type": KIND, "pieces": ["{}"]},
                 {"type": KIND, "pieces": ["{}\0\0\0", "body"]},
                 {"type": KIND, "pieces": ["[200]" + END]},
                 {"type": KIND, "pieces": ["{", END]},
                 {"type": KIND, "pieces": ['{"headers":{}'], "throws": "half way"},
                 {"type": KIND, "megabytes": 1},
                 {"type": KIND, "pieces": [" " * 400_000, "{}" + END]}):
        failed(url, what)
    assert order(url, {"prelude": {}, "last": "on it goes"}).data == b"on it goes"


def failures_half_way_end_the_connection():
    api = client()
    url = made(api, Timeout=2)
    for what in ({"throws": "half way"}, {"throws": "uncaught"}, {"exits": 3}, {"hangs": True}):
        assert broken(url, {"pieces": ["half"], **what}) == (200, b"half"), what
        said = {"prelude": {"statusCode": 201}, "pieces": ["half"], **what}
        assert broken(url, said) == (201, b"half"), what
    # The head is out, and nothing more comes.
    said = {"type": KIND, "pieces": ['{"statusCode":202}' + END], "pause": 50, "throws": "half way"}
    assert broken(url, said) == (202, b"")
    # It is the connection's end that says so, not a last chunk.
    parts = urllib.parse.urlsplit(url)
    with socket.create_connection((LISTENER.hostname, LISTENER.port), timeout=30) as raw:
        body = json.dumps({"pieces": ["half"], "throws": "half way"})
        raw.sendall(f"POST / HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
        seen = b""
        while piece := raw.recv(65536):
            seen += piece
    assert seen.endswith(b"\r\n4\r\nhalf\r\n"), seen
    curl = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "-H", "Content-Type: application/json", "-d", body, url],
        capture_output=True, text=True)
    assert (curl.returncode, curl.stdout) == (18, "half"), (curl.returncode, curl.stderr)
    assert order(url, {"last": "again"}).data == b"again"
    eventually("nothing runs", lambda: busy() == 0)


def answers_without_a_body_have_none():
    api = client()
    url = made(api)
    prelude = {"statusCode": 200, "headers": {"x": "y"}}
    connection, answer = open_to(url, {"prelude": prelude, "pieces": ["body"]}, "HEAD")
    assert answer.status == 200 and answer.headers["x"] == "y" and answer.read() == b""
    # The same connection goes on.
    for status in (204, 304):
        said = {"prelude": {**prelude, "statusCode": status}, "pieces": ["HTTP/1.1 200 OK"]}
        connection, answer = open_to(url, said, connection=connection)
        assert (answer.status, answer.read()) == (status, b"") and answer.headers["x"] == "y"
    connection, answer = open_to(url, {"pieces": ["a", "b"]}, connection=connection)
    assert answer.read() == b"ab"
    connection, answer = open_to(url, {"throws": "first"}, "HEAD", connection=connection)
    assert (answer.status, answer.read()) == (502, b"")
    eventually("nothing runs", lambda: busy() == 0)


def the_rest_is_as_for_other_urls():
    api = client()
    url = made(api)
    page = "https://www.example.com"
    api.update_function_url_config(FunctionName="f", Cors={"AllowOrigins": [page]})
    says = {"prelude": {"headers": {"Access-Control-Allow-Origin": "*"}}, "last": "x"}
    for origin, allowed in ((page, page), ("https://evil.example", None)):
        answer = fetch(url, "POST", {"Origin": origin, "Content-Type": "application/json"},
                       json.dumps(says))
        assert answer.status == 200
        assert answer.headers.get_all("access-control-allow-origin") == (allowed and [allowed])
    answer = order(path_form(url), says)
    assert answer.data == b"x" and answer.headers["content-security-policy"].startswith("sandbox ")
    api.update_function_url_config(FunctionName="f", AuthType="AWS_IAM")
    assert fetch(url).status == 403
    answer = signed(url, "POST", json.dumps(says), {"Content-Type": "application/json"})
    assert (answer.status, answer.data) == (200, b"x")
    api.update_function_url_config(FunctionName="f", AuthType="NONE")
    api.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    answer = order(url, says)
    assert answer.status == 429 and b"Rate Exceeded" in answer.data


def curl_shows_what_streams():
    api = client()
    url = made(api)

    def curl(what, *arguments):
        return subprocess.run(
            ["curl", "-sS", "--noproxy", "*", "-H", "Content-Type: application/json",
             "-d", json.dumps(what), *arguments, url], check=True, capture_output=True).stdout.decode()

    said = {"prelude": {"statusCode": 418, "headers": {"x-own": "1"}}, "pieces": ["a", "b"], "pause": 20}
    head, body = curl(said, "-i").split("\r\n\r\n")
    assert head.startswith("HTTP/1.1 418") and "x-own: 1" in head and body == "ab"
    assert "transfer-encoding: chunked" in head.lower()
    # A client that does not know chunks gets the bytes alone.
    head, body = curl(said, "-i", "--http1.0").split("\r\n\r\n")
    assert "transfer-encoding" not in head.lower() and body == "ab", head
    with subprocess.Popen(["curl", "-sSN", "--noproxy", "*", "-H", "Content-Type: application/json",
                           "-d", json.dumps({"pieces": ["one", "two"], "pause": 300}), url],
                          stdout=subprocess.PIPE, bufsize=0) as running:
        assert running.stdout.read(3) == b"one" and busy() == 1
        assert running.stdout.read() == b"two"


def the_rate_of_lambda():
    api = client()
    url = made(api)
    begun = time.monotonic()
    assert len(order(url, {"megabytes": 9}).data) == 9 << 20
    assert time.monotonic() - begun > (9 - 6) / 2 - 0.5


def slow_readers_slow_the_function():
    api, logs = client(), client("logs")
    url = made(api, Timeout=120)
    assert len(order(url, {"megabytes": 8}).data) == 8 << 20
    before = resident_kib()
    connection, answer = open_to(url, {"prelude": {"statusCode": 201}, "megabytes": 100})
    assert answer.status == 201
    digest, count = hashlib.sha256(answer.read(70000)), 70000
    for _ in range(10):
        time.sleep(0.1)
        grown = resident_kib() - before
        assert grown < 16 * 1024, f"lamu holds {grown} KiB for a reader that sleeps"
    assert busy() == 1
    while data := answer.read(1 << 16):
        digest.update(data)
        count += len(data)
    assert count == 100 << 20
    grown = resident_kib() - before
    assert grown < 16 * 1024, f"lamu grew by {grown} KiB"
    found = f"sha256 {digest.hexdigest()}"
    eventually("every byte is the function's", lambda: any(found in line for line in messages(logs)))


def messages(logs):
    found = logs.filter_log_events(logGroupName="/aws/lambda/f")["events"]
    return [event["message"] for event in found]


def readers_that_hang_up():
    api, logs = client(), client("logs")
    url = made(api, Timeout=60)
    for at, what in enumerate(({"pieces": ["first"], "megabytes": 50},
                               {"prelude": {}, "pieces": ["first"], "megabytes": 50}), 1):
        connection, answer = open_to(url, what)
        answer.read(5)
        answer.close()
        connection.close()
        eventually("it runs on to its end",
                   lambda: any(f"the end of call {at}" in line for line in messages(logs)))
    # One that does not even wait for the head.
    parts = urllib.parse.urlsplit(url)
    with socket.create_connection((LISTENER.hostname, LISTENER.port)) as raw:
        body = json.dumps({"type": KIND, "pieces": ["{", "}"], "pause": 200, "last": END})
        raw.sendall(f"POST / HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
        eventually("it runs", lambda: busy() == 1)
    eventually("its end, too", lambda: any("the end of call 3" in line for line in messages(logs)))
    eventually("nothing runs", lambda: busy() == 0)
    assert not any("Status: " in line for line in messages(logs)), "all ended well"
    assert order(url, {"last": "again"}).data == b"again"


def stock_rust_client():
    api = client()
    url = api.create_function_url_config(
        FunctionName="stream-rust", AuthType="NONE", InvokeMode="RESPONSE_STREAM")["FunctionUrl"]
    answer = fetch(url + "?until=50000")
    assert answer.status == 200 and answer.headers["transfer-encoding"] == "chunked"
    assert answer.data.decode().split() == [str(number) for number in range(1, 50_001)]
    assert fetch(url).status == 502


if __name__ == "__main__":
    main(globals())
