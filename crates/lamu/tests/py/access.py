"""Signatures as boto3 makes them, against a lamu that verifies."""

import datetime
import json
import os
import urllib.error
import urllib.request

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from common import call, client, create, main, run

ENDPOINT = os.environ["AWS_ENDPOINT_URL_LAMBDA"]
CREDENTIALS = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])


def fetch(url, headers=None, method="GET", data=None):
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}, method=method, data=data)).status
    except urllib.error.HTTPError as error:
        return error.code


def presigned_urls():
    api = client()
    create(api, "f", "def handler(event, context):\n    return event\n")
    assert run(api, "f", [1]) == [1]
    request = AWSRequest(method="GET", url=f"{ENDPOINT}/2015-03-31/functions")
    SigV4QueryAuth(CREDENTIALS, "lambda", "us-east-1", expires=60).add_auth(request)
    assert fetch(request.url) == 200
    assert fetch(request.url.replace("functions", "functions/f")) == 403
    other = AWSRequest(method="GET", url=f"{ENDPOINT}/2015-03-31/functions")
    SigV4QueryAuth(Credentials(CREDENTIALS.access_key, "wrong"), "lambda", "us-east-1", expires=60).add_auth(other)
    assert fetch(other.url) == 403


def old_signatures_are_refused():
    import botocore.auth
    url = f"{ENDPOINT}/2015-03-31/functions"

    def signed(at, body=b"", sent=b"", method="GET"):
        class Then(datetime.datetime):
            @classmethod
            def utcnow(cls):
                return at
        request = AWSRequest(method=method, url=url, data=body)
        auth = SigV4Auth(CREDENTIALS, "lambda", "us-east-1")
        real = botocore.auth.get_current_datetime if hasattr(botocore.auth, "get_current_datetime") else None
        if real:
            botocore.auth.get_current_datetime = lambda *a, **k: at
        else:
            botocore.auth.datetime.datetime = Then
        try:
            auth.add_auth(request)
        finally:
            if real:
                botocore.auth.get_current_datetime = real
        return fetch(url, dict(request.headers), method, sent or None)

    now = datetime.datetime.utcnow()
    assert signed(now) == 200
    assert signed(now - datetime.timedelta(minutes=2)) == 200
    assert signed(now - datetime.timedelta(minutes=20)) == 403
    assert signed(now + datetime.timedelta(minutes=20)) == 403
    # The signature covers the body.
    assert signed(now, b'{"FunctionName":"a"}', b'{"FunctionName":"b"}', "POST") == 403


main(globals())
