"""What functions reach when endpoints are configured: those, through the SDKs
that they bring, and nothing besides."""

import hashlib
import io
import os
import pathlib
import zipfile

import boto3

from common import client, create, main, run

APP = """
import os, socket, hashlib

def handler(event, context):
    do = event["do"]
    if do == "connect":
        try:
            socket.create_connection((event["host"], event["port"]), 3).close()
            return "connected"
        except OSError as error:
            return type(error).__name__ + " " + str(error.errno)
    if do == "variables":
        return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    if do == "hold":
        held = [socket.create_connection((event["host"], event["port"]), 3) for _ in range(event["count"])]
        return len(held)
    import boto3
    if do == "round":
        s3 = boto3.client("s3")
        body = os.urandom(event["bytes"])
        s3.put_object(Bucket=event["bucket"], Key="k", Body=body)
        back = s3.get_object(Bucket=event["bucket"], Key="k")["Body"].read()
        return {"same": back == body, "sha256": hashlib.sha256(body).hexdigest(),
                "endpoint": s3.meta.endpoint_url}
    if do == "invoke":
        import json
        api = boto3.client("lambda")
        answer = api.invoke(FunctionName=event["name"], Payload=json.dumps(event["payload"]))
        return json.load(answer["Payload"])
"""


def with_boto3(app):
    """The function with boto3 beside it, as people vendor it, less the
    services that it does not call."""
    site = pathlib.Path(boto3.__file__).parent.parent
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name in ["boto3", "botocore", "s3transfer", "urllib3", "jmespath", "dateutil"]:
            for path in sorted((site / name).rglob("*")):
                inside = path.relative_to(site)
                data = inside.parts[:2] == ("botocore", "data") and len(inside.parts) > 3
                wanted = not data or inside.parts[2] in ("s3", "lambda")
                if path.is_file() and wanted and "__pycache__" not in path.parts:
                    made.write(path, str(inside))
        made.write(site / "six.py", "six.py")
        info = zipfile.ZipInfo("app.py")
        info.external_attr = 0o644 << 16
        made.writestr(info, app)
    return out.getvalue()


def functions_use_s3_through_an_unchanged_url():
    port, other = int(os.environ["LAMU_TEST_S3_PORT"]), int(os.environ["LAMU_TEST_OTHER_PORT"])
    url = f"http://127.0.0.1:{port}"
    s3 = client("s3", endpoint_url=url)
    s3.create_bucket(Bucket="bucket")
    api = client()
    create(api, "f", with_boto3(APP), MemorySize=512, Timeout=60)
    made = run(api, "f", {"do": "round", "bucket": "bucket", "bytes": 100})
    assert made["same"] and made["endpoint"] == url, made
    # What the function stored is there for who asks from outside.
    assert hashlib.sha256(s3.get_object(Bucket="bucket", Key="k")["Body"].read()).hexdigest() == made["sha256"]
    large = run(api, "f", {"do": "round", "bucket": "bucket", "bytes": 20 << 20})
    assert large["same"], large

    connect = lambda host, port: run(api, "f", {"do": "connect", "host": host, "port": port})
    assert connect("127.0.0.1", port) == "connected"
    assert connect("127.0.0.1", other) == "ConnectionRefusedError 111", "a service nobody configured"
    assert connect("localhost", other) == "ConnectionRefusedError 111"
    for host in ["169.254.169.254", "10.0.0.1", "8.8.8.8"]:
        assert connect(host, 80) == "OSError 101", host
    assert connect("sqs.us-east-1.amazonaws.com", 443).startswith("gaierror")
    # Lamu's own API is another service nobody configured.
    own = int(os.environ["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
    assert connect("127.0.0.1", own) == "ConnectionRefusedError 111"

    # Far more than are served at once: the rest waits, and goes with the test.
    assert run(api, "f", {"do": "hold", "host": "127.0.0.1", "port": port, "count": 90}) == 90
    assert run(api, "f", {"do": "round", "bucket": "bucket", "bytes": 10})["same"]

    told = run(api, "f", {"do": "variables"})
    assert told["AWS_ENDPOINT_URL_S3"] == url
    assert told["AWS_ACCESS_KEY_ID"] == "for-functions" and told["AWS_SECRET_ACCESS_KEY"] == "secret"
    assert "AWS_SESSION_TOKEN" not in told
    api.update_function_configuration(
        FunctionName="f", Environment={"Variables": {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}})
    api.get_waiter("function_updated_v2").wait(FunctionName="f")
    assert run(api, "f", {"do": "variables"})["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:1"


def functions_invoke_functions():
    api = client()
    create(api, "callee", "def handler(e, c): return {'heard': e, 'by': c.invoked_function_arn}")
    create(api, "caller", with_boto3(APP), MemorySize=512, Timeout=60)
    answer = run(api, "caller", {"do": "invoke", "name": "callee", "payload": {"n": 1}})
    assert answer["heard"] == {"n": 1} and answer["by"].endswith(":function:callee"), answer
    # Through another, and that one's error as its caller sees it.
    nested = run(api, "caller", {"do": "invoke", "name": "caller", "payload":
        {"do": "invoke", "name": "callee", "payload": 2}})
    assert nested["heard"] == 2, nested
    told = run(api, "caller", {"do": "variables"})
    assert told["AWS_ENDPOINT_URL_LAMBDA"] == "http://127.77.0.1:9001", told
    # The account is the function's own.
    other = client(aws_access_key_id="111111111111", aws_secret_access_key="x")
    create(other, "callee", "def handler(e, c): return 'of the other account'")
    create(other, "caller", with_boto3(APP), MemorySize=512, Timeout=60)
    assert run(other, "caller", {"do": "invoke", "name": "callee", "payload": 0}) == "of the other account"


def nothing_is_reached_by_default():
    api = client()
    create(api, "f", APP)
    own = int(os.environ["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
    connect = lambda host, port: run(api, "f", {"do": "connect", "host": host, "port": port})
    for host, port in [("127.0.0.1", own), ("127.77.0.1", 9001), ("127.77.0.1", 443)]:
        assert connect(host, port) == "ConnectionRefusedError 111", (host, port)
    told = run(api, "f", {"do": "variables"})
    assert not [name for name in told if name.startswith("AWS_ENDPOINT_URL")], told


main(globals())
