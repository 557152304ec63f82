"""What is wrong with a request is said in Lambda's words, whatever it is: each
kind of the model's constraints on every member that has one, JSON that is not
what it should be, bodies that are too large, and names in all their forms."""

import base64
import json
import re
import threading
import urllib.parse

from common import ACCOUNT, PYTHON, REGION, ROLE, client, create, main, pack, settle
from model import OPERATIONS, SHAPES, Wire, places, send

FUNCTIONS = "/2015-03-31/functions"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
ECHO = "def handler(event, context):\n    return event\n"
# Longer values are more than a URL or a header carries.
TEXT_MAX = {"body": 70_000, "uri": 2_000, "querystring": 8_000, "header": 8_000}
# Runtimes are held against their enum behind the model, in words of their own.
BY_HAND = {("CreateFunction", "Runtime"), ("UpdateFunctionConfiguration", "Runtime")}


def all_places(fits):
    chosen = [place for place in places() if fits(place)]
    assert chosen, "the model has none of these"
    return chosen


def violated(answer, place, demand):
    wanted = f"at '{place.path}' failed to satisfy constraint: {demand}"
    assert answer.status == 400, (place, answer)
    assert answer.code == "ValidationException", (place, answer)
    assert wanted in answer.message, (place, wanted, answer)
    assert re.match(r"\d+ validation errors? detected: ", answer.message), (place, answer)
    assert "Type" not in answer.json, (place, answer.json)


def check(asked):
    """Not a handful by accident."""
    print(f"{asked} requests")
    assert asked >= 2, asked


def missing_members():
    wire, asked = Wire(), 0
    for place in all_places(lambda p: p.required and p.location != "uri" and p.type != "blob"):
        violated(place.ask_without(wire), place, "Member must not be null")
        if place.location == "body":
            violated(place.ask(wire, None), place, "Member must not be null")
        asked += 1
    check(asked)


def texts_that_are_too_long():
    wire, asked = Wire(), 0
    for place in all_places(lambda p: p.type == "string" and "max" in p.shape):
        length = place.shape["max"]
        if length + 1 > TEXT_MAX[place.location]:
            continue
        violated(place.ask(wire, "x" * (length + 1)), place,
                 f"Member must have length less than or equal to {length}")
        asked += 1
    check(asked)


def texts_that_are_too_short():
    wire, asked = Wire(), 0
    # An empty label is another path.
    for place in all_places(lambda p: p.type == "string" and p.shape.get("min", 0) > 0):
        length = place.shape["min"]
        if place.location == "uri" and length == 1:
            continue
        violated(place.ask(wire, "x" * (length - 1)), place,
                 f"Member must have length greater than or equal to {length}")
        asked += 1
    check(asked)


def matching(pattern):
    # Java's classes are ASCII. Letters, blanks and digits of all scripts are
    # more than is tried here.
    scripts = {r"\p{L}": "a-zA-Z\u00aa-\uffff", r"\p{Z}": " ", r"\p{N}": "0-9"}
    for script, members in scripts.items():
        pattern = pattern.replace(script, members)
    return re.compile(pattern, re.ASCII)


def texts_of_another_form():
    wire, asked, takes_all = Wire(), 0, set()
    for place in all_places(lambda p: p.type == "string" and "pattern" in p.shape):
        pattern = place.shape["pattern"]
        candidates = ["!", "a b", "x!y", "\n", "a\nb", "-", "$", "."]
        if place.location == "header":
            candidates = [text for text in candidates if text.isprintable()]
        wrong = [text for text in candidates if not matching(pattern).fullmatch(text)]
        if not wrong:
            takes_all.add(pattern)
            continue
        violated(place.ask(wire, wrong[0]), place,
                 f"Member must satisfy regular expression pattern: {pattern}")
        asked += 1
    # Nothing is left out but what fits everything.
    assert all(matching(pattern).fullmatch("\u00e9 anything !") for pattern in takes_all), takes_all
    check(asked)


def words_that_are_none_of_the_enum():
    wire, asked = Wire(), 0
    for place in all_places(lambda p: p.type == "string" and "enum" in p.shape):
        if (place.operation, place.steps[-1]) in BY_HAND:
            continue
        answer = place.ask(wire, "no-such-word")
        violated(answer, place, "Member must satisfy enum value set: [")
        told = answer.message.split(f"at '{place.path}'")[1].split("[", 1)[1].split("]")[0]
        assert set(told.split(", ")) == set(place.shape["enum"]), (place, answer)
        asked += 1
    for operation, member in BY_HAND:
        sound = {"FunctionName": "absent", "Role": ROLE, "Handler": "a.b", "Code": {"ZipFile": "emlw"}}
        body = json.dumps(sound | {member: "cobol"}).encode()
        answer = send(wire, operation, [], None, raw=body)
        # An update of a function that is not there says that first.
        assert (answer.status, answer.code) in [(400, "InvalidParameterValueException"),
                                                (404, "ResourceNotFoundException")], answer
        asked += 1
    check(asked)


def numbers_out_of_range():
    wire, asked = Wire(), 0
    kinds = ("integer", "long", "float", "double")
    for place in all_places(lambda p: p.type in kinds and {"min", "max"} & set(p.shape)):
        whole = place.type in ("integer", "long")
        words = (lambda n: str(n)) if whole else (lambda n: str(float(n)))
        limit = 2**31 - 1 if place.type == "integer" else 2**63 - 1
        for bound, step, demand in [("max", 1, "less than or equal to"),
                                    ("min", -1, "greater than or equal to")]:
            if bound not in place.shape:
                continue
            value = place.shape[bound] + step
            if abs(value) > limit:
                continue
            violated(place.ask(wire, value), place,
                     f"Member must have value {demand} {words(place.shape[bound])}")
            asked += 1
    check(asked)


def sample(name):
    """A value of the right type."""
    shape = SHAPES[name]
    kind = shape["type"]
    if kind == "structure":
        return {}
    if kind == "list":
        return []
    if kind == "map":
        return {}
    return {"string": "x", "blob": "eA==", "boolean": True, "timestamp": 1}.get(kind, 1)


def lists_and_maps_of_the_wrong_size():
    wire, asked = Wire(), 0
    for place in all_places(lambda p: p.type in ("list", "map") and {"min", "max"} & set(p.shape)):
        shape = place.shape

        def of(count):
            if place.type == "list":
                return [sample(shape["member"]["shape"]) for _ in range(count)]
            value = sample(shape["value"]["shape"])
            return {f"k{i}": value for i in range(count)}

        if "max" in shape and shape["max"] <= 5_000:
            violated(place.ask(wire, of(shape["max"] + 1)), place,
                     f"Member must have length less than or equal to {shape['max']}")
            asked += 1
        # An empty list in a query is none at all.
        if shape.get("min", 0) > 0 and place.location == "body":
            violated(place.ask(wire, of(shape["min"] - 1)), place,
                     f"Member must have length greater than or equal to {shape['min']}")
            asked += 1
    check(asked)


def breaking(name):
    """A value of the right type that this shape refuses, if there is one."""
    shape = SHAPES[name]
    if shape["type"] == "string":
        if "enum" in shape:
            return "no-such-word"
        if "pattern" in shape:
            wrong = [text for text in ["!", "a b", "\n"] if not matching(shape["pattern"]).fullmatch(text)]
            if wrong:
                return wrong[0]
        if "max" in shape and shape["max"] < 60_000:
            return "x" * (shape["max"] + 1)
        if shape.get("min", 0) > 0:
            return ""
    if shape["type"] in ("double", "integer", "float", "long") and "max" in shape:
        return shape["max"] + 1
    return None


def items_and_keys_that_break_their_own_rules():
    wire, asked = Wire(), 0
    for place in all_places(lambda p: p.type in ("list", "map") and p.location == "body"):
        shape = place.shape
        if place.type == "list":
            wrong = breaking(shape["member"]["shape"])
            tries = [([wrong], "Member must satisfy constraint: [")] if wrong is not None else []
            tries.append(([None], "Member must satisfy constraint: ["))
        else:
            key, value = shape["key"]["shape"], shape["value"]["shape"]
            tries = []
            if breaking(key) is not None:
                tries.append(({breaking(key): sample(value)}, "Map keys must satisfy constraint: ["))
            if breaking(value) is not None:
                tries.append(({"k": breaking(value)}, "Map value must satisfy constraint: ["))
        for value, demand in tries:
            answer = place.ask(wire, value)
            violated(answer, place, demand)
            assert "Member must not be null]" in answer.message or "Map keys" in demand, (place, answer)
            asked += 1
    check(asked)


WRONG = {
    "string": [1, True, {}, []], "integer": ["1", True, {}, 1.5, 2**31], "long": ["1", 2**63, {}],
    "float": ["1", True], "double": ["1.0", True, []], "boolean": ["true", 1, []],
    "timestamp": [True, {}, "no time"], "blob": [1, {}, "*not base64*"], "list": ["x", {}, 1],
    "map": ["x", [], 1], "structure": ["x", [], 1],
}


def json_of_the_wrong_type():
    wire, asked = Wire(), 0
    for place in all_places(lambda p: p.location == "body"):
        if place.steps == [place.input().get("payload")]:
            continue
        for value in WRONG[place.type]:
            answer = place.ask(wire, value)
            assert answer.status == 400, (place, value, answer)
            assert answer.code == "SerializationException", (place, value, answer)
            # The blob is not base64 is said in other words; both say where.
            assert f"'{place.path}'" in answer.message, (place, value, answer)
            asked += 1
    check(asked)


def numbers_in_paths_and_queries_that_are_none():
    wire, asked = Wire(), 0
    kinds = ("integer", "long", "boolean", "timestamp")
    for place in all_places(lambda p: p.location != "body" and p.type in kinds):
        for value in ["x", "", "1e3", "99999999999999999999"]:
            if value == "" and place.location == "uri":
                continue
            # A time may be a number of seconds.
            if place.type == "timestamp" and value not in ("x", ""):
                continue
            answer = place.ask(wire, value)
            assert (answer.status, answer.code) == (400, "SerializationException"), (place, value, answer)
            asked += 1
    check(asked)


def with_body():
    for name, operation in OPERATIONS.items():
        shape = SHAPES[operation.get("input", {"shape": None})["shape"]] if "input" in operation else {}
        members = shape.get("members", {})
        if shape.get("payload") is None and any("location" not in m for m in members.values()):
            yield name, [m for m, ref in members.items() if "location" not in ref]


def unknown_and_null_members_are_as_if_absent():
    wire, asked = Wire(), 0
    for name, members in with_body():
        bare = send(wire, name, [], None, raw=b"{}")
        for body in [{"Unheard": {"of": [1, None]}, "": 1, "functionname": 5},
                     {member: None for member in members}]:
            answer = send(wire, name, [], None, raw=json.dumps(body).encode())
            assert repr(answer) == repr(bare), (name, body, answer, bare)
            asked += 1
        for body in [b"", b"null", b"  \r\n "]:
            answer = send(wire, name, [], None, raw=body)
            assert repr(answer) == repr(bare), (name, body, answer, bare)
    check(asked)


def bodies_that_are_no_json_objects():
    wire, asked = Wire(), 0
    for name, _ in with_body():
        for body in [b"{", b"[]", b"1", b'"text"', b"{}{}", b"{'a': 1}", b'{"a": NaN}', b"\xff\xfe",
                     b'{"a": "\xff"}', b"[" * 10_000, b'{"a":' * 10_000, b"\x00"]:
            answer = send(wire, name, [], None, raw=body)
            assert (answer.status, answer.code) == (400, "SerializationException"), (name, body[:20], answer)
            asked += 1
    check(asked)


def of_a_member_given_twice_the_last_counts():
    wire = Wire()
    api = client()
    create(api, "f", ECHO)
    path = f"{FUNCTIONS}/f/configuration"
    answer = wire.ask("PUT", path, b'{"Timeout": 5, "Timeout": 7}')
    assert answer.status == 200 and answer.json["Timeout"] == 7, answer
    settle(api, "f")
    answer = wire.ask("PUT", path, b'{"Timeout": 0, "Timeout": 8}')
    assert answer.status == 200 and answer.json["Timeout"] == 8, answer
    settle(api, "f")
    for body in [b'{"Timeout": 9, "Timeout": 0}', b'{"Timeout": 9, "Timeout": "x"}']:
        answer = wire.ask("PUT", path, body)
        assert answer.status == 400, answer
    answer = wire.ask("PUT", path, b'{"Environment": {"Variables": {"KEY": "1", "KEY": "2"}}}')
    assert answer.json["Environment"] == {"Variables": {"KEY": "2"}}, answer.json
    settle(api, "f")
    assert api.get_function_configuration(FunctionName="f")["Timeout"] == 8


def bodies_beyond_every_limit():
    """All of the body is sent, as SDKs do."""
    limits = {"CreateFunction": 70_167_211, "UpdateFunctionCode": 69_905_067,
              "Invoke": 6_291_456, "CreateAlias": 8 << 20}
    api = client()
    create(api, "f", ECHO)
    for name, limit in limits.items():
        wire = Wire()
        described = OPERATIONS[name]["http"]
        path = described["requestUri"].replace("{FunctionName}", "f")
        body = b'{"Description": "' + b"x" * limit + b'"}'
        answer = wire.ask(described["method"], path, body)
        assert answer.status == 413, (name, answer)
        operation = "InvokeFunction" if name == "Invoke" else name
        assert answer.message == f"Request must be smaller than {limit} bytes for the {operation} operation", answer
    # At the limit the content is looked at, and is what is refused.
    limit = limits["CreateFunction"]
    body = b'{"Description": "' + b"x" * (limit - 19) + b'"}'
    assert len(body) == limit
    answer = Wire().ask("POST", FUNCTIONS, body)
    assert (answer.status, answer.code) == (400, "ValidationException"), answer
    assert len(answer.body) < 100_000, "an answer stays small beside its request"
    assert Wire().ask("GET", f"{FUNCTIONS}/f").status == 200


def names_in_all_their_forms():
    wire = Wire()
    api = client()
    create(api, "fn", ECHO)
    api.publish_version(FunctionName="fn")
    api.create_alias(FunctionName="fn", Name="prod", FunctionVersion="1")
    forms = ["fn", "function:fn", f"{ACCOUNT}:function:fn", f"{REGION}:{ACCOUNT}:function:fn", ARN + "fn"]
    qualifiers = {"": ("$LATEST", ""), "$LATEST": ("$LATEST", ":$LATEST"), "1": ("1", ":1"), "prod": ("1", ":prod")}

    def encoded(text):
        return urllib.parse.quote(text, safe="")

    def get(name, qualifier=None, encode=encoded, suffix="/configuration"):
        query = f"?Qualifier={encode(qualifier)}" if qualifier is not None else ""
        return wire.ask("GET", f"{FUNCTIONS}/{encode(name)}{suffix}{query}")

    for form in forms:
        for qualifier, (version, ending) in qualifiers.items():
            named = f"{form}:{qualifier}" if qualifier else form
            for encode in [encoded, str]:
                asks = [(named, None), (form, qualifier or None), (named, qualifier or None)]
                for name, parameter in asks:
                    answer = get(name, parameter, encode)
                    assert answer.status == 200, (name, parameter, answer)
                    assert answer.json["Version"] == version, (name, parameter, answer.json)
                    assert answer.json["FunctionArn"] == f"{ARN}fn{ending}", (name, parameter, answer.json)
            invoked = wire.ask("POST", f"{FUNCTIONS}/{encoded(named)}/invocations", b"[1]")
            assert (invoked.status, invoked.json) == (200, [1]), (named, invoked)

    elsewhere = ARN.replace(REGION, "eu-west-1")
    theirs = ARN.replace(ACCOUNT, "999999999999")
    pattern = (400, "ValidationException", "Member must satisfy regular expression pattern: ")
    missing = (404, "ResourceNotFoundException", "Function not found: ")
    twice = (400, "InvalidParameterValueException",
             "The derived qualifier from the function name does not match the specified qualifier.")
    region = (404, "ResourceNotFoundException",
              f"Functions from 'eu-west-1' are not reachable in this region ('{REGION}')")
    for name, qualifier, (status, code, text) in [
        (elsewhere + "fn", None, region),
        (elsewhere.replace(ACCOUNT, "999999999999") + "fn", None, region),
        (elsewhere + "fn:$LATEST", "1", region),
        (theirs + "fn", None, (403, "AccessDeniedException", "lambda:GetFunctionConfiguration")),
        (theirs + "absent:1", "2", (403, "AccessDeniedException", "999999999999")),
        ("fn:$LATEST", "1", twice),
        ("fn:1", "prod", twice),
        (ARN + "fn:prod", "1", twice),
        ("absent", None, (404, "ResourceNotFoundException", f"Function not found: {ARN}absent")),
        ("FN", None, missing),
        ("fn", "2", (404, "ResourceNotFoundException", f"Function not found: {ARN}fn:2")),
        ("fn", "$latest", (404, "ResourceNotFoundException", f"Function not found: {ARN}fn:$latest")),
        ("x" * 65, None, missing),
        ("x" * 200, None, missing),
        (f"arn:aws:lambda:{REGION}:{ACCOUNT}:function", None,
         (404, "ResourceNotFoundException", f"Function not found: {ARN}function")),
        ("fn:1:2", None, pattern),
        ("function:fn:$LATEST:x", None, pattern),
        (f"arn:aws:lambda:{ACCOUNT}:function:fn", None, pattern),
        (f"arn:aws:lambda:{REGION}:function:fn", None, pattern),
        (ARN + "fn:$LATES", None, pattern),
        ("fn:$LATES", None, pattern),
        ("invalid!", None, pattern),
        ("fn/../fn", None, pattern),
        ("fn ", None, pattern),
        ("x" * 257, None, (400, "ValidationException", "Member must have length less than or equal to 256")),
        ("fn", "x" * 129, (400, "ValidationException", "Member must have length less than or equal to 128")),
        ("fn", "invalid!", (400, "ValidationException", "at 'qualifier' failed to satisfy constraint")),
    ]:
        answer = get(name, qualifier, lambda text: urllib.parse.quote(text, safe=""))
        assert (answer.status, answer.code) == (status, code), (name, qualifier, answer)
        assert text in answer.message, (name, qualifier, answer)

    def made(name):
        body = {"FunctionName": name, "Role": ROLE, "Runtime": PYTHON, "Handler": "app.handler",
                "Code": {"ZipFile": "emlw"}}
        return wire.ask("POST", FUNCTIONS, body)

    answer = made("x" * 65)
    assert (answer.status, answer.code) == (400, "InvalidParameterValueException"), answer
    assert answer.message == (f"1 validation error detected: Value '{'x' * 65}' at 'functionName' failed to satisfy "
                              "constraint: Member must have length less than or equal to 64"), answer
    long = ARN + "x" * (141 - len(ARN))
    answer = made(long)
    assert (answer.status, answer.code) == (400, "ValidationException"), answer
    assert "Member must have length less than or equal to 140" in answer.message, answer
    answer = made("a.b")
    assert (answer.status, answer.code) == (400, "ValidationException"), answer

    def delete(name, query=""):
        return wire.ask("DELETE", f"{FUNCTIONS}/{encoded(name)}{query}")

    for name, query, status, text in [
        ("fn", "?Qualifier=prod", 400, "Deletion of aliases is not currently supported."),
        ("fn:prod", "", 400, "Deletion of aliases is not currently supported."),
        ("fn", "?Qualifier=%24LATEST", 400, "$LATEST version cannot be deleted without deleting the function."),
        ("fn", "?Qualifier=%24latest", 404, f"Function not found: {ARN}fn"),
        ("fn", "?Qualifier=1", 409, ""),
        ("fn", "?Qualifier=77", 204, ""),
        ("absent", "", 404, f"Function not found: {ARN}absent"),
        ("x" * 65, "", 404, "Function not found: "),
    ]:
        answer = delete(name, query)
        assert answer.status == status and text in answer.message, (name, query, answer)
    answer = wire.ask("POST", f"{FUNCTIONS}/{'x' * 65}/invocations", b"{}")
    assert (answer.status, answer.code) == (404, "ResourceNotFoundException"), answer
    assert answer.message.endswith(":$LATEST"), answer
    # Every form, where only the function itself is meant.
    for form in forms:
        update = wire.ask("PUT", f"{FUNCTIONS}/{encoded(form)}/configuration", {"Timeout": 4})
        assert update.status == 200, (form, update)
        settle(api, "fn")
        update = wire.ask("PUT", f"{FUNCTIONS}/{encoded(form)}%3A1/configuration", {"Timeout": 4})
        assert update.status == 400 and "permitted on Lambda functions only" in update.message, update
    assert delete(ARN + "fn").status == 204


def at_once(count, act):
    """What `count` threads that begin together are answered."""
    gate, answers = threading.Barrier(count), [None] * count

    def run(at):
        wire = Wire()
        wire.ask("GET", "/healthz")
        gate.wait()
        answers[at] = act(wire, at)

    threads = [threading.Thread(target=run, args=(at,)) for at in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answer is not None for answer in answers), answers
    return answers


def statuses(answers):
    counted = {}
    for answer in answers:
        counted[answer.status] = counted.get(answer.status, 0) + 1
    return counted


def of_updates_at_once_with_a_revision_exactly_one_wins():
    api = client()
    create(api, "f", ECHO)
    api.publish_version(FunctionName="f")
    alias = api.create_alias(FunctionName="f", Name="a", FunctionVersion="1")
    code = [pack({"app.py": f"def handler(event, context):\n    return {at}\n"}) for at in range(8)]
    for round in range(4):
        before = api.get_function_configuration(FunctionName="f")["RevisionId"]
        if round % 2:
            def act(wire, at):
                return wire.ask("PUT", f"{FUNCTIONS}/f/code",
                                {"ZipFile": base64.b64encode(code[at]).decode(), "RevisionId": before})
        else:
            def act(wire, at):
                return wire.ask("PUT", f"{FUNCTIONS}/f/configuration",
                                {"Description": f"{round} {at}", "RevisionId": before})
        answers = at_once(8, act)
        counted = statuses(answers)
        assert counted.get(200) == 1 and set(counted) <= {200, 409, 412}, answers
        won = next(answer for answer in answers if answer.status == 200)
        settle(api, "f")
        now = api.get_function_configuration(FunctionName="f")
        assert now["Description"] == won.json["Description"], (now, won.json)
        assert now["CodeSha256"] == won.json["CodeSha256"], (now, won.json)

        revision = alias["RevisionId"]
        answers = at_once(8, lambda wire, at: wire.ask(
            "PUT", f"{FUNCTIONS}/f/aliases/a", {"Description": f"{round} {at}", "RevisionId": revision}))
        assert statuses(answers) == {200: 1, 412: 7}, answers
        won = next(answer for answer in answers if answer.status == 200)
        alias = api.get_alias(FunctionName="f", Name="a")
        assert alias["Description"] == won.json["Description"]

        revision = now["RevisionId"]
        answers = at_once(8, lambda wire, at: wire.ask(
            "POST", f"{FUNCTIONS}/f/versions", {"RevisionId": revision, "Description": str(at)}))
        assert statuses(answers) == {201: 1, 412: 7}, answers
        assert [version["Version"] for version in api.list_versions_by_function(FunctionName="f")["Versions"]] \
            == ["$LATEST"] + [str(n) for n in range(1, round + 3)]


def of_conflicting_changes_at_once_exactly_one_wins():
    api = client()
    body = {"Role": ROLE, "Runtime": PYTHON, "Handler": "app.handler"}
    code = base64.b64encode(pack({"app.py": ECHO})).decode()
    for round in range(3):
        name = f"f{round}"
        answers = at_once(8, lambda wire, at: wire.ask("POST", FUNCTIONS, body | {
            "FunctionName": name, "Description": str(at), "Code": {"ZipFile": code}}))
        assert statuses(answers) == {201: 1, 409: 7}, answers
        won = next(answer for answer in answers if answer.status == 201)
        settle(api, name)
        now = api.get_function_configuration(FunctionName=name)
        assert now["Description"] == won.json["Description"]

        answers = at_once(8, lambda wire, at: wire.ask("POST", f"{FUNCTIONS}/{name}/versions", {}))
        assert statuses(answers) == {201: 8}, answers
        assert {answer.json["Version"] for answer in answers} == {"1"}, "nothing changed between"

        answers = at_once(8, lambda wire, at: wire.ask("POST", f"{FUNCTIONS}/{name}/aliases", {
            "Name": "a", "FunctionVersion": "1", "Description": str(at)}))
        assert statuses(answers) == {201: 1, 409: 7}, answers

        # Without a revision the later wins, one after the other; while one is
        # under way the others are told so.
        answers = at_once(8, lambda wire, at: wire.ask(
            "PUT", f"{FUNCTIONS}/{name}/configuration", {"Description": f"update {at}", "Timeout": 10 + at}))
        counted = statuses(answers)
        assert counted.get(200, 0) >= 1 and set(counted) <= {200, 409}, answers
        for answer in answers:
            if answer.status == 409:
                assert answer.message == ("The operation cannot be performed at this time. An update is in "
                                          f"progress for resource: {ARN}{name}"), answer
        settle(api, name)
        now = api.get_function_configuration(FunctionName=name)
        told = [(answer.json["Description"], answer.json["Timeout"]) for answer in answers if answer.status == 200]
        assert (now["Description"], now["Timeout"]) in told, (now, told)
        revisions = [answer.json["RevisionId"] for answer in answers if answer.status == 200]
        assert len(set(revisions)) == len(revisions), revisions

        answers = at_once(8, lambda wire, at: wire.ask("DELETE", f"{FUNCTIONS}/{name}"))
        assert statuses(answers) == {204: 1, 404: 7}, answers


if __name__ == "__main__":
    main(globals())
