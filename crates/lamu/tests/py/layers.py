"""Layers through boto3: published, listed, chosen, merged into /opt, deleted."""

import base64
import hashlib
import io
import os
import pathlib
import subprocess
import urllib.error
import urllib.request
import zipfile

from common import (ACCOUNT, PYTHON, REGION, ROLE, call, client, create, fail, main, pack, refused,
                    run, settle)

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:"
ECHO = "def handler(event, context):\n    return event\n"
LOOK = """
import os, subprocess
def handler(event, context):
    answers = {}
    for path in event:
        try:
            answers[path] = sorted(os.listdir(path)) if os.path.isdir(path) else open(path).read()
        except OSError as error:
            answers[path] = error.errno
    return answers
"""


def publish(api, name, files, **more):
    content = files if isinstance(files, bytes) else pack(files)
    return api.publish_layer_version(LayerName=name, Content={"ZipFile": content}, **more)


def archive(entries):
    """A zip of (name, content, mode)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(info, content)
    return out.getvalue()


def published_read_and_deleted():
    api = client()
    zipped = pack({"python/tools.py": "X = 1\n"})
    made = publish(api, "tools", zipped, Description="first", LicenseInfo="MIT",
                   CompatibleRuntimes=["python3.12", "python3.13"],
                   CompatibleArchitectures=["x86_64", "arm64"])
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert made["LayerArn"] == ARN + "tools" and made["LayerVersionArn"] == ARN + "tools:1"
    assert made["Version"] == 1 and made["LicenseInfo"] == "MIT"
    assert made["CompatibleRuntimes"] == ["python3.12", "python3.13"]
    assert made["CompatibleArchitectures"] == ["x86_64", "arm64"]
    assert made["CreatedDate"].endswith("+0000"), made["CreatedDate"]
    content = made["Content"]
    assert content["CodeSize"] == len(zipped)
    assert content["CodeSha256"] == base64.b64encode(hashlib.sha256(zipped).digest()).decode()
    assert urllib.request.urlopen(content["Location"]).read() == zipped
    try:
        urllib.request.urlopen(content["Location"].replace("signature=", "signature=0"))
        raise AssertionError("a changed signature was taken")
    except urllib.error.HTTPError as error:
        assert error.code == 403, error.code

    # The same bytes again are a new version; what was not given is not shown.
    again = publish(api, ARN + "tools", zipped)
    assert again["Version"] == 2 and again["Description"] == ""
    assert not {"CompatibleRuntimes", "CompatibleArchitectures", "LicenseInfo"} & set(again), again

    def shown(answer):
        kept = {k: v for k, v in answer.items() if k not in ("ResponseMetadata", "Content")}
        kept["Size"] = answer["Content"]["CodeSize"]
        return kept

    for got in [api.get_layer_version(LayerName="tools", VersionNumber=1),
                api.get_layer_version(LayerName=ARN + "tools", VersionNumber=1),
                api.get_layer_version_by_arn(Arn=ARN + "tools:1")]:
        assert shown(got) == shown(made), got
        assert urllib.request.urlopen(got["Content"]["Location"]).read() == zipped
    usage = api.get_account_settings()["AccountUsage"]
    assert usage["TotalCodeSize"] == 2 * len(zipped) and usage["FunctionCount"] == 0, usage

    gone = api.delete_layer_version(LayerName="tools", VersionNumber=1)
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    api.delete_layer_version(LayerName="tools", VersionNumber=1)
    api.delete_layer_version(LayerName="never-was", VersionNumber=7)
    for ask in [lambda: api.get_layer_version(LayerName="tools", VersionNumber=1),
                lambda: api.get_layer_version_by_arn(Arn=ARN + "tools:1")]:
        with refused("ResourceNotFoundException", 404, f"Layer version {ARN}tools:1 does not exist."):
            ask()
    api.delete_layer_version(LayerName="tools", VersionNumber=2)
    assert api.list_layers()["Layers"] == []
    assert publish(api, "tools", zipped)["Version"] == 3, "numbers are never given twice"


def listed_by_what_fits_in_pages():
    api = client()
    zipped = pack({"x": "x"})
    for i in range(7):
        publish(api, "many", zipped, CompatibleRuntimes=["python3.12" if i % 2 else "nodejs22.x"],
                CompatibleArchitectures=["arm64" if i == 3 else "x86_64"])
    for name in ["a", "b-1", "b_2", "c"]:
        publish(api, name, zipped, CompatibleRuntimes=["python3.12"])
    publish(api, "bare", zipped)

    def versions(**filters):
        pages = api.get_paginator("list_layer_versions").paginate(
            LayerName="many", PaginationConfig={"PageSize": 2}, **filters)
        sizes, seen = [], []
        for page in pages:
            sizes.append(len(page["LayerVersions"]))
            seen += [version["Version"] for version in page["LayerVersions"]]
        assert max(sizes, default=0) <= 2, sizes
        return seen

    assert versions() == [7, 6, 5, 4, 3, 2, 1]
    assert versions(CompatibleRuntime="python3.12") == [6, 4, 2]
    assert versions(CompatibleArchitecture="arm64") == [4]
    assert versions(CompatibleRuntime="nodejs22.x", CompatibleArchitecture="arm64") == []
    item = api.list_layer_versions(LayerName="many", MaxItems=1)["LayerVersions"][0]
    assert item["LayerVersionArn"] == ARN + "many:7" and "Content" not in item, item
    none = api.list_layer_versions(LayerName="absent")
    assert none["LayerVersions"] == [] and "NextMarker" not in none, none

    def layers(**filters):
        pages = api.get_paginator("list_layers").paginate(
            PaginationConfig={"PageSize": 2}, **filters)
        return sorted((layer["LayerName"], layer["LatestMatchingVersion"]["Version"])
                      for page in pages for layer in page["Layers"])

    assert layers() == [("a", 1), ("b-1", 1), ("b_2", 1), ("bare", 1), ("c", 1), ("many", 7)]
    assert layers(CompatibleRuntime="nodejs22.x") == [("many", 7)]
    assert layers(CompatibleRuntime="python3.12") == [
        ("a", 1), ("b-1", 1), ("b_2", 1), ("c", 1), ("many", 6)]
    assert layers(CompatibleArchitecture="arm64") == [("many", 4)]
    with refused("ValidationException", 400, "less than or equal to 50"):
        api.list_layers(MaxItems=51)
    with refused("ValidationException", 400, "at 'compatibleRuntime'"):
        api.list_layers(CompatibleRuntime="cobol")
    with refused("InvalidParameterValueException", 400, "Marker"):
        api.list_layers(Marker="!!")


def laid_over_each_other_in_order():
    api = client()
    low = publish(api, "low", {"shared/both": "low", "shared/low": "low", "turned": "a file"})
    high = publish(api, "high", {"shared/both": "high", "shared/high": "high", "turned/in": "x"})
    # Other layers with the bytes of the first.
    same = [publish(api, f"same{i}", {"shared/both": "low", "shared/low": "low", "turned": "a file"})
            for i in range(2)]
    arns = [layer["LayerVersionArn"] for layer in (low, high, *same)]
    create(api, "f", LOOK, Layers=arns[:2])
    config = api.get_function_configuration(FunctionName="f")
    assert config["Layers"] == [
        {"Arn": layer["LayerVersionArn"], "CodeSize": layer["Content"]["CodeSize"]}
        for layer in (low, high)], config["Layers"]
    asked = ["/opt/shared", "/opt/shared/both", "/opt/turned", "/opt"]
    seen = run(api, "f", asked)
    assert seen == {"/opt/shared": ["both", "high", "low"], "/opt/shared/both": "high",
                    "/opt/turned": ["in"], "/opt": ["shared", "turned"]}, seen

    api.update_function_configuration(FunctionName="f", Layers=[arns[1], arns[0]])
    settle(api, "f")
    seen = run(api, "f", asked)
    assert seen["/opt/shared/both"] == "low" and seen["/opt/turned"] == "a file", seen
    assert seen["/opt/shared"] == ["both", "high", "low"], seen

    api.update_function_configuration(FunctionName="f", Layers=[arns[2], arns[0], arns[1], arns[3]])
    settle(api, "f")
    assert run(api, "f", asked)["/opt/shared/both"] == "low"

    api.update_function_configuration(FunctionName="f", Layers=arns[:1])
    settle(api, "f")
    assert run(api, "f", asked)["/opt/shared"] == ["both", "low"]
    api.update_function_configuration(FunctionName="f", Layers=[])
    settle(api, "f")
    assert "Layers" not in api.get_function_configuration(FunctionName="f")
    assert run(api, "f", ["/opt"]) == {"/opt": []}

    writes = """
def handler(event, context):
    refusals = 0
    for path in event:
        try:
            open(path, 'w')
        except OSError:
            refusals += 1
    return refusals
"""
    create(api, "writes", writes, Layers=arns[:2])
    assert run(api, "writes", ["/opt/new", "/opt/shared/low", "/opt/shared/both"]) == 3


def python_and_node_find_their_modules():
    api = client()
    version = PYTHON.removeprefix("python")
    modules = publish(api, "modules", {
        "python/direct.py": "WHERE = 'python'\n",
        "python/twice.py": "WHERE = 'python'\n",
        f"python/lib/{PYTHON}/site-packages/packaged.py": "WHERE = 'site-packages'\n",
        f"python/lib/{PYTHON}/site-packages/twice.py": "WHERE = 'site-packages'\n",
        "bin/tool": "#!/bin/sh\necho tool of the layer\n",
        "lib/libnothing.so": "not a library",
    })
    code = """
import os, subprocess, sys
import direct, packaged, twice
def handler(event, context):
    tool = subprocess.run(['tool'], capture_output=True, text=True).stdout.strip()
    return [direct.WHERE, packaged.WHERE, twice.WHERE, tool,
            '/opt/lib' in os.environ['LD_LIBRARY_PATH'].split(':'),
            '/opt/bin' in os.environ['PATH'].split(':')]
"""
    create(api, "f", code, Layers=[modules["LayerVersionArn"]], Timeout=10)
    found = run(api, "f")
    assert found[:2] == ["python", "site-packages"] and found[3:] == ["tool of the layer", True, True], found
    assert version

    node = subprocess.run(["/usr/bin/node", "--version"], capture_output=True, text=True)
    if node.returncode != 0:
        raise AssertionError("the tests need /usr/bin/node")
    major = node.stdout.strip().lstrip("v").split(".")[0]
    modules = publish(api, "node-modules", {
        "nodejs/node_modules/plain/index.js": "exports.where = 'node_modules';\n",
        f"nodejs/node{major}/node_modules/exact/index.js": "exports.where = 'of this version';\n",
    })
    app = "exports.handler = async () => [require('plain').where, require('exact').where];\n"
    create(api, "n", pack({"app.js": app}), runtime=f"nodejs{major}.x",
           Layers=[modules["LayerVersionArn"]], Timeout=10, MemorySize=256)
    assert run(api, "n") == ["node_modules", "of this version"]


def a_layer_brings_the_runtime_or_wraps_it():
    api = client()
    runtime = publish(api, "runtime", {"bootstrap": """#!/bin/sh
while :; do
  head=$(mktemp)
  curl -sS -D "$head" -o /dev/null "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next"
  id=$(grep -i '^lambda-runtime-aws-request-id:' "$head" | tr -d '\\r' | cut -d' ' -f2)
  curl -sS -o /dev/null -d "\\"$(cat /var/task/word) by /opt/bootstrap\\"" \\
    "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response"
done
"""})
    create(api, "f", pack({"word": "run"}), runtime="provided.al2023", handler="x", Timeout=10,
           Layers=[runtime["LayerVersionArn"]])
    assert run(api, "f") == "run by /opt/bootstrap"
    create(api, "none", pack({"word": "run"}), runtime="provided.al2023", handler="x", Timeout=10)
    assert fail(api, "none")["errorType"] == "Runtime.InvalidEntrypoint"

    wrapper = publish(api, "wrapper", {"wrapper": "#!/bin/sh\nexport WRAPPED=yes\nexec \"$@\"\n"})
    code = "import os\ndef handler(event, context):\n    return os.environ.get('WRAPPED')\n"
    create(api, "w", code, Layers=[wrapper["LayerVersionArn"]], Timeout=10,
           Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}})
    assert run(api, "w") == "yes"
    api.update_function_configuration(FunctionName="w", Layers=[])
    settle(api, "w")
    error = fail(api, "w")
    assert "exit status 127" in error["errorMessage"], error


def wrong_layers_get_lambdas_words():
    api = client()
    zipped = pack({"x": "x"})
    arns = [publish(api, f"l{i}", zipped)["LayerVersionArn"] for i in range(6)]
    second = publish(api, "l0", zipped)["LayerVersionArn"]
    gone = publish(api, "l0", zipped)["LayerVersionArn"]
    api.delete_layer_version(LayerName="l0", VersionNumber=3)
    elsewhere = f"arn:aws:lambda:eu-west-1:{ACCOUNT}:layer:l0:1"
    theirs = f"arn:aws:lambda:{REGION}:999999999999:layer:l0:1"
    of_aws = "arn:aws:lambda:::awslayer:AmazonLinux1803"
    create(api, "f", ECHO)
    invalid = "InvalidParameterValueException"
    for layers, code, status, text in [
        (arns, invalid, 400, "Cannot reference more than 5 layers."),
        ([gone], invalid, 400, f"Layer version {gone} does not exist."),
        ([ARN + "never:1"], invalid, 400, f"Layer version {ARN}never:1 does not exist."),
        ([ARN + "l0:0"], invalid, 400, "Layer Version Cannot be less than 1"),
        ([of_aws], invalid, 400, f"Layer version {of_aws} does not exist."),
        ([elsewhere], invalid, 400,
         f"Layers are not in the same region as the function. Layers are expected to be in region {REGION}."),
        ([arns[0], arns[1], second], invalid, 400,
         f"Two different versions of the same layer are not allowed to be referenced in the same function. {arns[0]} and {second} are versions of the same layer."),
        ([theirs], "AccessDeniedException", 403, "no resource-based policy allows the lambda:GetLayerVersion action"),
        ([ARN + "l0"], "ValidationException", 400, "at 'layers' failed to satisfy constraint"),
        (["nothing"], "ValidationException", 400, "at 'layers' failed to satisfy constraint"),
    ]:
        with refused(code, status, text):
            api.update_function_configuration(FunctionName="f", Layers=layers)
        with refused(code, status, text):
            api.create_function(FunctionName="g", Runtime=PYTHON, Handler="app.handler", Role=ROLE,
                                Code={"ZipFile": pack({"app.py": ECHO})}, Layers=layers)
    with refused("ResourceNotFoundException", 404):
        api.update_function_configuration(FunctionName="g", Layers=arns[:1])
    assert "Layers" not in api.get_function_configuration(FunctionName="f")
    assert run(api, "f", 1) == 1

    for number in [0, -1]:
        for ask in [api.get_layer_version, api.delete_layer_version]:
            with refused(invalid, 400, "Layer Version Cannot be less than 1"):
                ask(LayerName="l0", VersionNumber=number)
    with refused("AccessDeniedException", 403, "lambda:GetLayerVersion"):
        api.get_layer_version_by_arn(Arn=theirs)
    for ask in [lambda name: api.list_layer_versions(LayerName=name),
                lambda name: publish(api, name, zipped),
                lambda name: api.delete_layer_version(LayerName=name, VersionNumber=1)]:
        with refused("AccessDeniedException", 403, "999999999999:layer:l0"):
            ask(f"arn:aws:lambda:{REGION}:999999999999:layer:l0")
        with refused("ValidationException", 400, "at 'layerName' failed to satisfy constraint"):
            ask("not a name")
    with refused("ResourceNotFoundException", 404, "eu-west-1"):
        api.get_layer_version_by_arn(Arn=elsewhere)
    for arn in [ARN + "l0", "l0:1"]:
        with refused("ValidationException", 400, "at 'arn' failed to satisfy constraint"):
            api.get_layer_version_by_arn(Arn=arn)

    with refused(invalid, 400, "Could not unzip uploaded file"):
        publish(api, "bad", b"this is not a zip")
    with refused("ValidationException", 400, "at 'compatibleRuntimes' failed to satisfy constraint"):
        publish(api, "bad", zipped, CompatibleRuntimes=["cobol"])
    with refused("ValidationException", 400, "at 'compatibleArchitectures' failed to satisfy constraint"):
        publish(api, "bad", zipped, CompatibleArchitectures=["mips"])
    with refused("ValidationException", 400, "less than or equal to 512"):
        publish(api, "bad", zipped, LicenseInfo="x" * 513)
    with refused(invalid, 400):
        api.publish_layer_version(LayerName="bad", Content={})
    assert api.list_layer_versions(LayerName="bad")["LayerVersions"] == []


def zeros(mib, extra):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for name, text in extra.items():
            made.writestr(name, text)
        with made.open("zeros", "w") as entry:
            for _ in range(mib):
                entry.write(bytes(1 << 20))
    return out.getvalue()


def code_and_layers_share_one_limit():
    api = client()
    half = zeros(130, {"x": "x"})
    layer = publish(api, "half", half)["LayerVersionArn"]
    other = publish(api, "other-half", half)["LayerVersionArn"]
    small = publish(api, "small", {"y": "y"})["LayerVersionArn"]
    text = "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is "
    with refused("InvalidParameterValueException", 400, text + str(2 * (130 << 20) + 2 + len(ECHO))):
        create(api, "f", ECHO, Layers=[layer, other])
    create(api, "f", ECHO, Layers=[layer, small])
    with refused("InvalidParameterValueException", 400, text):
        api.update_function_configuration(FunctionName="f", Layers=[layer, other])
    with refused("InvalidParameterValueException", 400, text):
        api.update_function_code(FunctionName="f", ZipFile=zeros(130, {"app.py": ECHO}))
    assert run(api, "f", 5) == 5
    with refused("InvalidParameterValueException", 400, "Unzipped size must be smaller than 262144000 bytes"):
        publish(api, "whole", zeros(251, {"x": "x"}))


def a_change_of_layers_is_a_change():
    api = client()
    one = publish(api, "l", {"word": "one"})["LayerVersionArn"]
    two = publish(api, "l", {"word": "two"})["LayerVersionArn"]
    create(api, "f", LOOK, Layers=[one])
    assert api.publish_version(FunctionName="f")["Version"] == "1"
    assert api.publish_version(FunctionName="f")["Version"] == "1"
    api.update_function_configuration(FunctionName="f", Layers=[two])
    settle(api, "f")
    published = api.publish_version(FunctionName="f")
    assert published["Version"] == "2" and published["Layers"][0]["Arn"] == two, published
    assert run(api, "f", ["/opt/word"], Qualifier="1") == {"/opt/word": "one"}
    assert run(api, "f", ["/opt/word"], Qualifier="2") == {"/opt/word": "two"}
    listed = api.list_functions()["Functions"][0]
    assert [layer["Arn"] for layer in listed["Layers"]] == [two], listed


def links_lead_nowhere_they_should_not():
    api = client()
    link = 0o120777
    for target in ["/etc", "../../etc", "a/../../x"]:
        with refused("InvalidParameterValueException", 400, "Could not unzip uploaded file"):
            publish(api, "bad", archive([("out", target, link)]))
    # A file through the link of another layer replaces the link; nothing is
    # written anywhere.
    below = publish(api, "below", archive([("python", "real", link), ("real/kept", "kept", 0o100644)]))
    above = publish(api, "above", archive([("python/mine", "mine", 0o100644)]))
    create(api, "f", LOOK, Layers=[below["LayerVersionArn"], above["LayerVersionArn"]])
    seen = run(api, "f", ["/opt/python", "/opt/real"])
    assert seen == {"/opt/python": ["mine"], "/opt/real": ["kept"]}, seen
    # Two layers whose links lead out only together: out is the sandbox's own
    # root, which the function sees anyway.
    first = publish(api, "first", archive([("out", "step/..", link)]))
    then = publish(api, "then", archive([("step", ".", link)]))
    create(api, "g", LOOK, Layers=[first["LayerVersionArn"], then["LayerVersionArn"]])
    seen = run(api, "g", ["/opt/out", "/", "/opt/out/etc/passwd", "/etc/passwd"])
    assert seen["/opt/out"] == seen["/"], seen
    assert seen["/opt/out/etc/passwd"] == seen["/etc/passwd"] and "sbx_user1051" in seen["/etc/passwd"]
    host = pathlib.Path("/etc/passwd").read_text()
    assert seen["/etc/passwd"] != host


def published_from_s3():
    api = client()
    made = api.publish_layer_version(LayerName="l", Content={"S3Bucket": "code", "S3Key": "a b/f.zip"})
    create(api, "f", LOOK, Layers=[made["LayerVersionArn"]])
    assert run(api, "f", ["/opt/python/app.py"]) == {"/opt/python/app.py": "print('from s3')"}
    with refused("InvalidParameterValueException", 400, "S3 Error Code: NoSuchKey"):
        api.publish_layer_version(LayerName="l", Content={"S3Bucket": "code", "S3Key": "none.zip"})
    with refused("InvalidParameterValueException", 400, "S3Key"):
        api.publish_layer_version(LayerName="l", Content={"S3Bucket": "code"})


def deleted_and_still_used():
    api = client()
    low = publish(api, "low", {"word": "low", "more": "more"})["LayerVersionArn"]
    high = publish(api, "high", {"word": "high"})["LayerVersionArn"]
    create(api, "f", LOOK, Layers=[low, high])
    for name in ["low", "high"]:
        api.delete_layer_version(LayerName=name, VersionNumber=1)
    assert api.list_layers()["Layers"] == []
    assert run(api, "f", ["/opt/word"]) == {"/opt/word": "high"}
    # Its configuration may change, and keeps them.
    api.update_function_configuration(FunctionName="f", Timeout=7)
    settle(api, "f")
    api.publish_version(FunctionName="f")
    with refused("InvalidParameterValueException", 400, f"Layer version {low} does not exist."):
        api.update_function_configuration(FunctionName="f", Layers=[low, high])


def used_after_the_kill():
    api = client()
    for qualifier in ["$LATEST", "1"]:
        answer = run(api, "f", ["/opt/word", "/opt/more"], Qualifier=qualifier)
        assert answer == {"/opt/word": "high", "/opt/more": "more"}, answer
    config = api.get_function_configuration(FunctionName="f")
    assert [layer["Arn"] for layer in config["Layers"]] == [ARN + "low:1", ARN + "high:1"], config
    assert publish(api, "low", {"word": "low"})["Version"] == 2


main(globals())
