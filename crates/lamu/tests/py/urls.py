"""Function URLs: configured through boto3, called as any HTTP client would."""

import base64
import http.client
import json
import os
import re
import subprocess
import threading
import urllib.parse

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from common import ACCOUNT, REGION, client, create, main, pack, refused, settle

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
LISTENER = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL_LAMBDA"])
ECHO = "def handler(event, context):\n    return {'event': event, 'arn': context.invoked_function_arn}\n"
# What the event's body says is what the handler returns.
OBEY = """
import base64, json
calls = 0
def handler(event, context):
    global calls
    calls += 1
    body = event.get('body') or 'null'
    if event['isBase64Encoded']:
        body = base64.b64decode(body)
    order = json.loads(body)
    if order == 'raise':
        raise ValueError('boom')
    if order == 'count':
        return calls
    return order
"""


def fetch(url, method="GET", headers=(), body=None, **more):
    """One request, sent to the listener whatever the name resolves to."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(LISTENER.hostname, LISTENER.port, timeout=60)
    target = more.get("target") or (parts.path or "/") + ("?" + parts.query if parts.query else "")
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", parts.netloc)
    for name, value in headers.items() if isinstance(headers, dict) else headers:
        connection.putheader(name, value)
    if body is not None:
        body = body if isinstance(body, bytes) else body.encode()
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    answer.data = answer.read()
    connection.close()
    return answer


def order(url, what, **more):
    return fetch(url, "POST", [("Content-Type", "application/json")], json.dumps(what), **more)


def made(api, name, code=OBEY, auth="NONE", **more):
    create(api, name, code)
    return api.create_function_url_config(FunctionName=name, AuthType=auth, **more)["FunctionUrl"]


def path_form(url):
    return f"{LISTENER.scheme}://{LISTENER.netloc}/lambda-url/{url_id(url)}/"


def url_id(url):
    return urllib.parse.urlsplit(url).hostname.split(".")[0]


def json_of(answer):
    assert answer.status == 200, (answer.status, answer.data)
    return json.loads(answer.data)


def configured_and_listed():
    api = client()
    create(api, "f", ECHO)
    with refused("ResourceNotFoundException", 404, "The resource you requested does not exist."):
        api.get_function_url_config(FunctionName="f")
    with refused("ResourceNotFoundException", 404, "The resource you requested does not exist."):
        api.update_function_url_config(FunctionName="f", AuthType="NONE")
    for absent in ({"FunctionName": "absent"}, {"FunctionName": "f", "Qualifier": "absent"}):
        with refused("ResourceNotFoundException", 404, "Function does not exist"):
            api.create_function_url_config(AuthType="NONE", **absent)
        with refused("ResourceNotFoundException", 404, "The resource you requested does not exist."):
            api.get_function_url_config(**absent)
        with refused("ResourceNotFoundException", 404, "The resource you requested does not exist."):
            api.delete_function_url_config(**absent)
        with refused("ResourceNotFoundException", 404, "Function does not exist"):
            api.update_function_url_config(AuthType="NONE", **absent)
    with refused("ResourceNotFoundException", 404, "Function does not exist"):
        api.list_function_url_configs(FunctionName="absent")

    one = api.create_function_url_config(FunctionName="f", AuthType="NONE")
    assert one["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert one["FunctionArn"] == ARN + "f" and one["AuthType"] == "NONE"
    assert "InvokeMode" not in one and "Cors" not in one, one
    assert re.fullmatch(rf"http://[a-z2-7]{{32}}\.lambda-url\.{REGION}\.localhost:{LISTENER.port}/",
                        one["FunctionUrl"]), one
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", one["CreationTime"]), one
    with refused("ResourceConflictException", 409,
                 f"Failed to create function url config for [functionArn = {ARN}f]. "
                 "Error message:  FunctionUrlConfig exists for this Lambda function"):
        api.create_function_url_config(FunctionName="f", AuthType="AWS_IAM")
    got = api.get_function_url_config(FunctionName=ARN + "f")
    assert got["FunctionUrl"] == one["FunctionUrl"] and got["InvokeMode"] == "BUFFERED"
    assert got["CreationTime"] == one["CreationTime"] == got["LastModifiedTime"]

    cors = {"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET"], "MaxAge": 5,
            "AllowHeaders": ["date"], "ExposeHeaders": ["date"], "AllowCredentials": False}
    changed = api.update_function_url_config(FunctionName="f", AuthType="AWS_IAM", Cors=cors)
    assert changed["Cors"] == cors and changed["AuthType"] == "AWS_IAM"
    assert changed["FunctionUrl"] == one["FunctionUrl"]
    assert changed["LastModifiedTime"] > changed["CreationTime"] == one["CreationTime"]
    kept = api.update_function_url_config(FunctionName="f", InvokeMode="BUFFERED")
    assert kept["Cors"] == cors and kept["AuthType"] == "AWS_IAM", kept
    assert "Cors" not in api.update_function_url_config(FunctionName="f", Cors={})
    for wrong in ({"AllowMethods": ["BREW"]}, {"AllowHeaders": ["a b"]}):
        with refused("InvalidParameterValueException", 400, "Invalid value in cors."):
            api.update_function_url_config(FunctionName="f", Cors=wrong)
    with refused("ValidationException", 400, "cors.allowMethods"):
        api.update_function_url_config(FunctionName="f", Cors={"AllowMethods": ["OPTIONS"]})
    for version in ("$LATEST", "1"):
        with refused("ValidationException", 400, "'qualifier' failed to satisfy constraint"):
            api.get_function_url_config(FunctionName="f", Qualifier=version)
    with refused("ValidationException", 400, "'functionName' failed to satisfy constraint"):
        api.get_function_url_config(FunctionName="f:1")
    with refused("ValidationException", 400, "authType"):
        api.create_function_url_config(FunctionName="f", AuthType="SOME")

    api.publish_version(FunctionName="f")
    for alias in ("a", "b", "c"):
        api.create_alias(FunctionName="f", Name=alias, FunctionVersion="1")
    first = api.create_function_url_config(FunctionName="f", Qualifier="a", AuthType="NONE",
                                           InvokeMode="BUFFERED")
    assert first["FunctionArn"] == ARN + "f:a" and first["InvokeMode"] == "BUFFERED"
    api.create_function_url_config(FunctionName="f:b", AuthType="NONE")
    pages = list(api.get_paginator("list_function_url_configs").paginate(
        FunctionName="f", PaginationConfig={"PageSize": 2}))
    assert [len(page["FunctionUrlConfigs"]) for page in pages] == [2, 1]
    arns = [url["FunctionArn"] for page in pages for url in page["FunctionUrlConfigs"]]
    assert arns == [ARN + "f", ARN + "f:a", ARN + "f:b"], arns
    with refused("ValidationException", 400, "less than or equal to 50"):
        api.list_function_url_configs(FunctionName="f", MaxItems=51)

    gone = api.delete_function_url_config(FunctionName="f")
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused("ResourceNotFoundException", 404):
        api.delete_function_url_config(FunctionName="f")
    again = api.create_function_url_config(FunctionName="f", AuthType="NONE")
    assert again["FunctionUrl"] != one["FunctionUrl"]


def concurrent_creations_have_one_winner():
    api = client()
    create(api, "f", ECHO)
    made, lost = [], []

    def attempt():
        try:
            made.append(client().create_function_url_config(FunctionName="f", AuthType="NONE"))
        except api.exceptions.ResourceConflictException as error:
            lost.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(lost)) == (1, 7)
    assert json_of(fetch(made[0]["FunctionUrl"]))["arn"] == ARN + "f"


def events_have_the_payload_format():
    api = client()
    url = made(api, "f", ECHO)
    ident, host = url_id(url), urllib.parse.urlsplit(url)
    headers = [("X-Multi", "v1"), ("x-multi", "v2"), ("Cookie", "c1=v1; c2=v2"),
               ("User-Agent", "agent"), ("Content-Type", "application/json"),
               ("Connection", "X-Hop"), ("X-Hop", "1")]
    for base in (url, path_form(url)):
        answer = fetch(base + "my/path%20x?a=1&a=2&b=x+y%21&flag", "POST", headers, '{"k":1}')
        assert answer.headers["content-type"] == "application/json"
        got = json_of(answer)
        event = got["event"]
        assert got["arn"] == ARN + "f"
        assert event["version"] == "2.0" and event["routeKey"] == "$default"
        assert event["rawPath"] == "/my/path%20x"
        assert event["rawQueryString"] == "a=1&a=2&b=x+y%21&flag"
        assert event["queryStringParameters"] == {"a": "1,2", "b": "x y!", "flag": ""}
        assert event["cookies"] == ["c1=v1", "c2=v2"]
        assert event["body"] == '{"k":1}' and event["isBase64Encoded"] is False
        sent = event["headers"]
        assert sent["x-multi"] == "v1,v2" and sent["content-length"] == "7"
        assert sent["host"] == urllib.parse.urlsplit(base).netloc
        assert not {"cookie", "connection", "x-hop"} & set(sent), sent
        assert sent["x-forwarded-for"] == "127.0.0.1" and sent["x-forwarded-proto"] == "http"
        assert sent["x-forwarded-port"] == str(LISTENER.port)
        assert sent["x-amzn-trace-id"].startswith("Root=1-")
        context = event["requestContext"]
        assert context["accountId"] == "anonymous" and "authorizer" not in context
        assert context["apiId"] == context["domainPrefix"] == ident
        assert context["domainName"] == host.hostname
        assert context["requestId"] == answer.headers["x-amzn-requestid"]
        assert context["stage"] == context["routeKey"] == "$default"
        assert re.fullmatch(r"\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000", context["time"])
        assert isinstance(context["timeEpoch"], int)
        assert context["http"] == {"method": "POST", "path": "/my/path%20x", "protocol": "HTTP/1.1",
                                   "sourceIp": "127.0.0.1", "userAgent": "agent"}
        root = sent["x-amzn-trace-id"].removeprefix("Root=")
        assert answer.headers["x-amzn-trace-id"] == f"root={root};sampled=0"

    bare = json_of(fetch(url))["event"]
    assert not {"cookies", "queryStringParameters", "body"} & set(bare), bare
    assert bare["rawPath"] == "/" and bare["rawQueryString"] == ""
    for kind, body, shown in [
            ("text/plain; charset=utf-8", "ü".encode(), "ü"),
            ("application/vnd.api+json", b"{}", "{}"),
            ("application/x-www-form-urlencoded", b"a=b", None),
            ("multipart/form-data; boundary=x", b"--x--", None),
            ("image/png", b"\x89PNG", None),
            ("text/plain", b"\xff\xfe", None)]:
        event = json_of(fetch(url, "PUT", [("Content-Type", kind)], body))["event"]
        assert event["isBase64Encoded"] is (shown is None), kind
        want = shown if shown is not None else base64.b64encode(body).decode()
        assert event["body"] == want, kind
    for method in ("DELETE", "PATCH", "OPTIONS", "BREW"):
        assert json_of(fetch(url, method))["event"]["requestContext"]["http"]["method"] == method


def responses_are_what_the_function_says():
    api = client()
    url = made(api, "f")
    answer = order(url, {"statusCode": 201, "body": "<p>ü</p>", "cookies": ["a=b; HttpOnly", "c=d"],
                         "headers": {"Content-Type": "text/html", "X-Own": "1", "Date": "then",
                                     "Transfer-Encoding": "chunked", "Content-Length": "9999",
                                     "WWW-Authenticate": "Basic", "X-Amzn-RequestId": "mine"}})
    assert answer.status == 201 and answer.data.decode() == "<p>ü</p>"
    assert answer.headers.get_all("set-cookie") == ["a=b; HttpOnly", "c=d"]
    assert answer.headers["content-type"] == "text/html" and answer.headers["x-own"] == "1"
    assert answer.headers["x-amzn-remapped-date"] == "then"
    assert answer.headers["x-amzn-remapped-www-authenticate"] == "Basic"
    assert answer.headers["www-authenticate"] is None
    assert answer.headers["content-length"] == str(len("<p>ü</p>".encode()))
    assert answer.headers["transfer-encoding"] is None
    assert len(answer.headers["x-amzn-requestid"]) == 36

    blob = base64.b64encode(bytes(range(256))).decode()
    assert order(url, {"statusCode": 200, "body": blob, "isBase64Encoded": True}).data == bytes(range(256))
    for returned, shown in [({"message": "hi"}, b'{"message": "hi"}'), ("hello", b"hello"),
                            ([1, 2], b"[1, 2]"), (None, b"null"), (7, b"7")]:
        answer = order(url, returned)
        assert (answer.status, answer.data) == (200, shown), (returned, answer.data)
        assert answer.headers["content-type"] == "application/json"
    assert order(url, {"statusCode": 204, "body": "x"}).data == b""
    head = fetch(url, "HEAD")
    assert head.status == 200 and head.data == b"" and head.headers["content-length"] == "4"

    for bad in ("raise", {"statusCode": 99}, {"statusCode": 101}, {"statusCode": "ok"},
                {"statusCode": 200, "body": {}}, {"statusCode": 200, "headers": {"x": "a\r\nb: c"}},
                {"statusCode": 200, "headers": {"x\r\nSet-Cookie": "a=b"}},
                {"statusCode": 200, "cookies": ["a=b\r\n\r\nHTTP/1.1 200 OK"]},
                {"statusCode": 200, "body": "!", "isBase64Encoded": True},
                {"statusCode": 200, "headers": {f"x-{i}": "1" for i in range(40_000)}}):
        answer = order(url, bad)
        assert (answer.status, answer.data) == (502, b"Internal Server Error"), (bad, answer.data)
        assert answer.headers["set-cookie"] is None
    assert order(url, "count").status == 200, "it goes on"


def cors_is_answered_and_added():
    api = client()
    page = "https://www.example.com"
    url = made(api, "f")
    ask = {"Origin": page, "Access-Control-Request-Method": "PUT",
           "Access-Control-Request-Headers": "x-custom"}
    invoked = fetch(url, "OPTIONS", ask)
    assert (invoked.status, invoked.data) == (200, b"null"), "without rules it is the function's"
    before = json_of(order(url, "count"))

    api.update_function_url_config(FunctionName="f", Cors={
        "AllowOrigins": [page], "AllowMethods": ["PUT", "GET"], "AllowHeaders": ["x-custom"],
        "ExposeHeaders": ["x-own"], "MaxAge": 300, "AllowCredentials": True})
    answer = fetch(url, "OPTIONS", ask)
    assert (answer.status, answer.data) == (200, b"")
    assert answer.headers["access-control-allow-origin"] == page
    assert answer.headers["access-control-allow-methods"] == "PUT,GET"
    assert answer.headers["access-control-allow-headers"] == "x-custom"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-max-age"] == "300"
    for wrong in ({**ask, "Origin": "https://evil.example"},
                  {**ask, "Access-Control-Request-Method": "DELETE"}):
        answer = fetch(url, "OPTIONS", wrong)
        assert answer.status == 200 and answer.headers["access-control-allow-origin"] is None
    assert json_of(order(url, "count")) == before + 1, "no preflight ran the function"

    says = {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "*"}}
    for origin, allowed in ((page, page), ("https://evil.example", None)):
        answer = fetch(url, "POST", {"Origin": origin, "Content-Type": "application/json"},
                       json.dumps(says))
        assert answer.headers.get_all("access-control-allow-origin") == (allowed and [allowed])
    answer = fetch(url, "POST", {"Origin": page, "Content-Type": "application/json"}, '"raise"')
    assert answer.status == 502 and answer.headers["access-control-allow-origin"] == page


def pages_reach_functions_and_nothing_else():
    """From the point of view of a page that is not the user's."""
    api = client()
    url = made(api, "f")
    host = urllib.parse.urlsplit(url).netloc
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert fetch(url, "POST", foreign, "1").status == 200, "the owner made it public"
    assert fetch(path_form(url), "POST", foreign, "1").status == 200
    # A name of its own that it made mean this machine.
    rebound = f"http://evil.example:{LISTENER.port}/lambda-url/{url_id(url)}/"
    assert fetch(rebound).status == 403
    named = url.replace("localhost", "evil.example")
    assert fetch(named).status == 403
    # The API, from a page that the function served.
    api_url = f"http://localhost:{LISTENER.port}/2015-03-31/functions"
    for origin in (f"http://{host}", "null", f"http://x.lambda-url.{REGION}.localhost:{LISTENER.port}"):
        assert fetch(api_url, headers={"Origin": origin}).status == 403, origin
    assert fetch(api_url).status == 200
    # Under the URL's own name there is no API.
    assert fetch(url + "2015-03-31/functions").data == b"null"
    assert fetch(url + "healthz").data == b"null" and fetch(url + "metrics").data == b"null"
    # The path form shares an origin with the API, so its pages get none.
    says = {"statusCode": 200, "headers": {"content-type": "text/html",
                                           "Content-Security-Policy": "script-src *"},
            "body": "<script>fetch('/2015-03-31/functions')</script>"}
    policies = order(path_form(url), says).headers.get_all("content-security-policy")
    assert len(policies) == 2 and any(
        policy.startswith("sandbox ") and "allow-same-origin" not in policy for policy in policies)
    assert order(url, says).headers.get_all("content-security-policy") == ["script-src *"]


CREDENTIALS = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])


def signed(url, method="GET", body=None, headers=None, credentials=CREDENTIALS, region=REGION,
           service="lambda", sent_to=None, sent=None):
    request = AWSRequest(method=method, url=url, data=body, headers=headers or {})
    SigV4Auth(credentials, service, region).add_auth(request)
    return fetch(sent_to or url, method, dict(request.headers), sent or body)


def any_signature_will_do_without_keys():
    api = client()
    url = made(api, "f", ECHO, "AWS_IAM")
    for base in (url, path_form(url)):
        answer = fetch(base)
        assert answer.status == 403 and answer.headers["x-amzn-errortype"] == "AccessDeniedException"
        assert json.loads(answer.data)["Message"].startswith("Forbidden. For troubleshooting")
        event = json_of(signed(base + "x?q=1"))["event"]
        assert event["requestContext"]["accountId"] == ACCOUNT
        assert event["requestContext"]["authorizer"]["iam"] == {
            "accessKey": "test", "accountId": ACCOUNT, "callerId": ACCOUNT, "userId": ACCOUNT,
            "cognitoIdentity": None, "principalOrgId": None, "userArn": f"arn:aws:iam::{ACCOUNT}:root"}
        # A page could make up a signature, too.
        request = AWSRequest(method="POST", url=base)
        SigV4QueryAuth(CREDENTIALS, "lambda", REGION, expires=60).add_auth(request)
        assert fetch(request.url, "POST").status == 200
        for header in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"},
                       {"Origin": "null"}):
            assert fetch(request.url, "POST", header).status == 403, header
    own = {"Origin": url.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert signed(url, headers=own).status == 200


def signatures_are_verified():
    """Against a lamu with the key of the environment, and one of another account."""
    api = client()
    url = made(api, "f", ECHO, "AWS_IAM")
    own = os.environ["LAMU_TEST_ACCOUNT"]
    for base in (url, path_form(url)):
        event = json_of(signed(base + "a%20b?q=1&q=2", "POST", b"data"))["event"]
        iam = event["requestContext"]["authorizer"]["iam"]
        assert event["requestContext"]["accountId"] == iam["accountId"] == own
        assert iam["accessKey"] == CREDENTIALS.access_key
        assert event["body"] == base64.b64encode(b"data").decode()
        request = AWSRequest(method="GET", url=base + "x?q=1")
        SigV4QueryAuth(CREDENTIALS, "lambda", REGION, expires=60).add_auth(request)
        assert fetch(request.url).status == 200
        assert fetch(request.url.replace("q=1", "q=2")).status == 403

        assert fetch(base).status == 403
        wrong = Credentials(CREDENTIALS.access_key, "wrong")
        for answer in (signed(base, credentials=wrong), signed(base, service="execute-api"),
                       signed(base, "POST", b"data", sent=b"other"), signed(base, sent_to=base + "x")):
            assert answer.status == 403, answer.data
            assert b"ignature" in answer.data or b"scoped" in answer.data, answer.data
        unknown = signed(base, credentials=Credentials("AKIDNOBODY", "x"))
        assert unknown.status == 403 and b"security token" in unknown.data
        assert signed(base, region="eu-west-1").status == 403
        answer = signed(base, credentials=STRANGER)
        assert answer.status == 403 and b"Forbidden" in answer.data, answer.data


STRANGER = Credentials(os.environ.get("LAMU_TEST_OTHER_ID"), os.environ.get("LAMU_TEST_OTHER_SECRET"))


def policies_open_urls():
    """It takes the right to use the URL and the right to invoke through it."""
    api = client()
    public = made(api, "f", ECHO)

    def open_to(name, principal, auth, **more):
        api.add_permission(FunctionName=name, StatementId="use", Principal=principal,
                           Action="lambda:InvokeFunctionUrl", FunctionUrlAuthType=auth, **more)
        yield
        api.add_permission(FunctionName=name, StatementId="invoke", Principal=principal,
                           Action="lambda:InvokeFunction", InvokedViaFunctionUrl=True, **more)
        yield

    refused_one = fetch(public, "POST", body="x")
    assert refused_one.status == 403, "AuthType NONE alone opens nothing"
    assert refused_one.headers["x-amzn-errortype"] == "AccessDeniedException"
    steps = open_to("f", "*", "NONE")
    next(steps)
    assert fetch(public).status == 403
    next(steps)
    assert json_of(fetch(public))["event"]["requestContext"]["accountId"] == "anonymous"
    assert fetch(public, headers={"Origin": "https://evil.example"}).status == 200
    api.remove_permission(FunctionName="f", StatementId="use")
    assert fetch(public).status == 403

    # Another account's caller, through an alias, whose policy is its own.
    create(api, "g", ECHO)
    api.publish_version(FunctionName="g")
    api.create_alias(FunctionName="g", Name="prod", FunctionVersion="1")
    url = api.create_function_url_config(FunctionName="g", Qualifier="prod", AuthType="AWS_IAM")["FunctionUrl"]
    other = os.environ["LAMU_TEST_OTHER_ACCOUNT"]
    for _ in open_to("g", other, "AWS_IAM"):
        pass
    assert signed(url, credentials=STRANGER).status == 403, "the function's policy is not the alias's"
    for _ in open_to("g", other, "AWS_IAM", Qualifier="prod"):
        pass
    iam = json_of(signed(url, credentials=STRANGER))["event"]["requestContext"]["authorizer"]["iam"]
    assert iam["accountId"] == other and iam["userArn"] == f"arn:aws:iam::{other}:root"
    with refused("AccessDeniedException", 403):
        stranger = client(aws_access_key_id=STRANGER.access_key, aws_secret_access_key=STRANGER.secret_key)
        stranger.invoke(FunctionName=f"arn:aws:lambda:{REGION}:{os.environ['LAMU_TEST_ACCOUNT']}:function:g:prod")


def aliases_have_urls_of_their_own():
    api = client()
    versioned = "def handler(event, context):\n    return [%d, context.invoked_function_arn]\n"
    create(api, "f", versioned % 1)
    api.publish_version(FunctionName="f")
    api.update_function_code(FunctionName="f", ZipFile=pack({"app.py": versioned % 2}))
    settle(api, "f")
    api.publish_version(FunctionName="f")
    api.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
    prod = api.create_function_url_config(FunctionName="f", Qualifier="prod", AuthType="NONE")["FunctionUrl"]
    latest = api.create_function_url_config(FunctionName="f", AuthType="NONE")["FunctionUrl"]
    assert json_of(fetch(prod)) == [1, ARN + "f:prod"]
    assert json_of(fetch(latest)) == [2, ARN + "f"]
    api.update_alias(FunctionName="f", Name="prod", FunctionVersion="2")
    assert json_of(fetch(prod)) == [2, ARN + "f:prod"]

    api.delete_alias(FunctionName="f", Name="prod")
    assert fetch(prod).status == 403
    with refused("ResourceNotFoundException", 404):
        api.get_function_url_config(FunctionName="f", Qualifier="prod")
    api.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
    assert fetch(prod).status == 403, "an alias made again has no URL"
    assert len(api.list_function_url_configs(FunctionName="f")["FunctionUrlConfigs"]) == 1

    api.delete_function(FunctionName="f")
    assert fetch(latest).status == 403
    create(api, "f", versioned % 3)
    assert fetch(latest).status == 403, "a function made again has no URL"
    assert api.list_function_url_configs(FunctionName="f")["FunctionUrlConfigs"] == []


def what_cannot_be_served_says_so():
    api = client()
    url = made(api, "f")
    for base in (url, path_form(url)):
        unknown = fetch(base.replace(url_id(url), "a" * 32))
        assert (unknown.status, unknown.data) == (403, b'{"Message":null}')
        assert unknown.headers["x-amzn-errortype"] == "AccessDeniedException"
    assert fetch(url.replace(REGION, "eu-west-1")).data == b'{"Message":null}'

    many = fetch(url, "POST", [("Content-Type", "text/plain")], "x" * 6_291_456)
    assert many.status == 413 and b"6291456" in many.data, many.data
    assert fetch(url, "POST", [("Content-Type", "text/plain")], "x" * 7_000_000).status == 413
    fits = json.dumps("x" * 6_280_000)
    answer = fetch(url, "POST", [("Content-Type", "application/json")], fits)
    assert answer.status == 200 and len(answer.data) == 6_280_000

    api.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    answer = order(url, 1)
    assert answer.status == 429 and b"Rate Exceeded" in answer.data, answer.data
    api.delete_function_concurrency(FunctionName="f")

    create(api, "big", "def handler(event, context):\n    return 'x' * 6_400_000\n")
    big = api.create_function_url_config(FunctionName="big", AuthType="NONE")["FunctionUrl"]
    assert fetch(big).status == 502
    create(api, "slow", "import time\ndef handler(event, context):\n    time.sleep(30)\n", Timeout=1)
    slow = api.create_function_url_config(FunctionName="slow", AuthType="NONE")["FunctionUrl"]
    answer = fetch(slow)
    assert (answer.status, answer.data) == (502, b"Internal Server Error")


def curl_reaches_the_url_that_is_shown():
    api = client()
    url = made(api, "f", ECHO)

    def curl(*arguments, sent=None):
        done = subprocess.run(["curl", "-sS", "--noproxy", "*", *arguments], check=True,
                              capture_output=True, text=True, input=sent)
        return json.loads(done.stdout)["event"]

    event = curl(url + "a/b?c=d")
    assert event["rawPath"] == "/a/b" and event["queryStringParameters"] == {"c": "d"}
    assert event["headers"]["user-agent"].startswith("curl/")
    event = curl("-d", "a=b", url)
    assert event["isBase64Encoded"] and base64.b64decode(event["body"]) == b"a=b"
    event = curl("-H", "Transfer-Encoding: chunked", "-H", "Content-Type: text/plain", "-d", "abc", url)
    assert event["body"] == "abc" and "transfer-encoding" not in event["headers"]
    event = curl("-b", "c=1; d=2", "-H", "Expect: 100-continue", "-H", "Content-Type: text/plain",
                 "--data-binary", "@-", url, sent="x" * 2_000_000)
    assert event["cookies"] == ["c=1", "d=2"] and len(event["body"]) == 2_000_000
    event = curl("--aws-sigv4", f"aws:amz:{REGION}:lambda", "-u", "test:test", url + "signed")
    assert event["headers"]["authorization"].startswith("AWS4-HMAC-SHA256")


def a_proxys_name_is_shown_and_served():
    """With --url-base https://lambda.example."""
    api = client()
    url = made(api, "f", ECHO)
    assert re.fullmatch(rf"https://[a-z2-7]{{32}}\.lambda-url\.{REGION}\.lambda\.example/", url)
    event = json_of(fetch(url))["event"]
    assert event["requestContext"]["domainName"] == urllib.parse.urlsplit(url).hostname
    assert event["headers"]["x-forwarded-proto"] == "https"
    assert event["headers"]["x-forwarded-port"] == "443"
    local = url.replace("https", "http").replace("lambda.example", f"localhost:{LISTENER.port}")
    assert json_of(fetch(local))["event"]["headers"]["x-forwarded-proto"] == "http"
    assert json_of(fetch(path_form(url)))["event"]["rawPath"] == "/"


def make_one():
    api = client()
    create(api, "f", ECHO)
    api.publish_version(FunctionName="f")
    api.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
    api.create_function_url_config(FunctionName="f", AuthType="NONE")
    gone = api.create_function_url_config(FunctionName="f:prod", AuthType="NONE")
    api.delete_function_url_config(FunctionName="f", Qualifier="prod")
    print("ids", url_id(api.get_function_url_config(FunctionName="f")["FunctionUrl"]),
          url_id(gone["FunctionUrl"]))


def find_it_again():
    api = client()
    kept, gone = os.environ["LAMU_TEST_IDS"].split()
    url = api.get_function_url_config(FunctionName="f")["FunctionUrl"]
    assert url_id(url) == kept
    assert json_of(fetch(url))["arn"] == ARN + "f"
    assert fetch(url.replace(kept, gone)).status == 403
    with refused("ResourceNotFoundException", 404):
        api.get_function_url_config(FunctionName="f", Qualifier="prod")


if __name__ == "__main__":
    main(globals())
