"""Requests made from the service model: every member of every input, wherever
it travels, and a request in which that one member has a given value.

What is asked here does not go through an SDK, which would check the model
itself.
"""

import http.client
import json
import os
import urllib.parse

ROOT = os.environ["LAMU_TEST_ROOT"]
MODEL = json.load(open(os.path.join(ROOT, "crates/lamu-api/model/lambda.json")))
SHAPES = MODEL["shapes"]
OPERATIONS = MODEL["operations"]

# Labels that the path cannot do without, where any word would not do.
LABELS = {
    "VersionNumber": "1",
    "UUID": "00000000-0000-4000-8000-000000000000",
    "Resource": "arn:aws:lambda:us-east-1:000000000000:function:absent",
    "ResourceArn": "arn:aws:lambda:us-east-1:000000000000:function:absent",
}


class Wire:
    """One connection, used again as long as the other side keeps it."""

    def __init__(self):
        address = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL_LAMBDA"])
        self.connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)

    def ask(self, method, path, body=None, headers=None):
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        self.connection.request(method, path, data, headers or {})
        answer = self.connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.code = headers.get("x-amzn-errortype", "")
        try:
            self.json = json.loads(body) if body else None
        except ValueError:
            self.json = None
        error = self.json if isinstance(self.json, dict) else {}
        self.message = error.get("message") or error.get("Message") or ""

    def __repr__(self):
        return f"{self.status} {self.code}: {self.message[:2000]}"


class Place:
    """A member of an input: its operation and the way to it. A step is a
    member's name, or 0 for the first item of a list."""

    def __init__(self, operation, steps, ref, required):
        self.operation, self.steps, self.required = operation, steps, required
        self.shape_name, self.shape = ref["shape"], SHAPES[ref["shape"]]
        self.type = self.shape["type"]
        top = self.input()["members"][steps[0]]
        self.location = top.get("location", "body")
        self.location_name = top.get("locationName", steps[0])

    def input(self):
        return SHAPES[OPERATIONS[self.operation]["input"]["shape"]]

    @property
    def path(self):
        """As messages name it."""
        parts = []
        for step in self.steps:
            parts += ["1", "member"] if step == 0 else [step[0].lower() + step[1:]]
        return ".".join(parts)

    def __repr__(self):
        return f"{self.operation} {self.path}"

    def ask(self, wire, value, **more):
        """A request in which this member has this value."""
        return send(wire, self.operation, self.steps, value, **more)

    def ask_without(self, wire):
        """A request with everything round this member, and not this member."""
        if len(self.steps) == 1:
            return send(wire, self.operation, [], None)
        return send(wire, self.operation, self.steps[:-1], {})


def places(operation=None):
    """Every member of the inputs, members of members included."""
    for name in [operation] if operation else OPERATIONS:
        if "input" in OPERATIONS[name]:
            yield from below(name, OPERATIONS[name]["input"]["shape"], [], [])


def below(operation, structure, steps, seen):
    shape = SHAPES[structure]
    for member, ref in shape.get("members", {}).items():
        here = steps + [member]
        yield Place(operation, here, ref, member in shape.get("required", []))
        target, name = SHAPES[ref["shape"]], ref["shape"]
        if target["type"] == "list":
            name = target["member"]["shape"]
            here = here + [0]
        if SHAPES[name]["type"] == "structure" and name not in seen:
            yield from below(operation, name, here, seen + [name])


def nest(steps, value):
    for step in reversed(steps):
        value = [value] if step == 0 else {step: value}
    return value


def send(wire, operation, steps, value, raw=None):
    """`raw` is sent as the body in place of what the steps make."""
    described = OPERATIONS[operation]
    shape = SHAPES[described["input"]["shape"]]
    path, _, static = described["http"]["requestUri"].partition("?")
    query, headers, body, labels = [static] if static else [], {}, {}, {}
    if steps:
        top = shape["members"][steps[0]]
        location = top.get("location", "body")
        name = top.get("locationName", steps[0])
        quoted = urllib.parse.quote
        if location == "uri":
            labels[name] = value
        elif location == "querystring":
            values = value if isinstance(value, list) else [value]
            query += [f"{name}={quoted(text(one), safe='')}" for one in values]
        elif location == "header":
            headers[name] = text(value)
        elif shape.get("payload") == steps[0]:
            body = nest(steps[1:], value)
        else:
            body = nest(steps, value)
    for member in shape.get("members", {}).values():
        if member.get("location") == "uri":
            name = member["locationName"]
            label = text(labels.get(name, LABELS.get(name, "absent")))
            for hole in ["{%s}" % name, "{%s+}" % name]:
                path = path.replace(hole, urllib.parse.quote(label, safe=""))
    if query:
        path += "?" + "&".join(query)
    method = described["http"]["method"]
    has_body = raw is not None or any(
        "location" not in member for member in shape.get("members", {}).values())
    return wire.ask(method, path, (raw if raw is not None else body) if has_body else None, headers)


def text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)
