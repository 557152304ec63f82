"""Code signing configurations through boto3. No package can be signed here, so
each is what the policy makes of an unsigned one."""

import os
import pathlib

from common import ACCOUNT, PYTHON, REGION, ROLE, client, create, main, pack, refused, run, settle

PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/release/abcdefghij"
OTHER = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/other/abcdefghij"
ECHO = "def handler(event, context):\n    return event\n"
CONFIG = f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:csc-"
ABSENT = CONFIG + "0123456789abcdefg"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
UNSIGNED = "Lambda cannot deploy the function."


def config(api, policy=None, **more):
    if policy:
        more["CodeSigningPolicies"] = {"UntrustedArtifactOnDeployment": policy}
    made = api.create_code_signing_config(
        AllowedPublishers={"SigningProfileVersionArns": [PROFILE]}, **more)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    return made["CodeSigningConfig"]


def made_changed_listed_and_deleted():
    api = client()
    made = config(api, Description="first", Tags={"team": "x"})
    arn = made["CodeSigningConfigArn"]
    assert arn == CONFIG + made["CodeSigningConfigId"].removeprefix("csc-")
    assert len(made["CodeSigningConfigId"]) == 21, made
    assert made["AllowedPublishers"] == {"SigningProfileVersionArns": [PROFILE]}
    assert made["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"}
    assert made["Description"] == "first" and made["LastModified"].endswith("+0000")
    assert api.get_code_signing_config(CodeSigningConfigArn=arn)["CodeSigningConfig"] == made
    assert api.list_tags(Resource=arn)["Tags"] == {"team": "x"}
    api.tag_resource(Resource=arn, Tags={"stage": "test"})
    api.untag_resource(Resource=arn, TagKeys=["team"])
    assert api.list_tags(Resource=arn)["Tags"] == {"stage": "test"}

    changed = api.update_code_signing_config(
        CodeSigningConfigArn=arn, Description="second",
        CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Enforce"})["CodeSigningConfig"]
    assert changed["Description"] == "second"
    assert changed["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Enforce"}
    assert changed["AllowedPublishers"] == made["AllowedPublishers"]
    changed = api.update_code_signing_config(
        CodeSigningConfigArn=arn, AllowedPublishers={"SigningProfileVersionArns": [OTHER]})
    changed = changed["CodeSigningConfig"]
    assert changed["AllowedPublishers"] == {"SigningProfileVersionArns": [OTHER]}
    assert changed["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Enforce"}

    for _ in range(4):
        config(api)
    seen, sizes = [], []
    for page in api.get_paginator("list_code_signing_configs").paginate(
            PaginationConfig={"PageSize": 2}):
        sizes.append(len(page["CodeSigningConfigs"]))
        seen += page["CodeSigningConfigs"]
    assert sizes == [2, 2, 1], sizes
    assert len({one["CodeSigningConfigArn"] for one in seen}) == 5 and changed in seen

    gone = api.delete_code_signing_config(CodeSigningConfigArn=arn)
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    for ask in [api.get_code_signing_config, api.delete_code_signing_config,
                api.update_code_signing_config, api.list_functions_by_code_signing_config]:
        with refused("ResourceNotFoundException", 404,
                     f"The Lambda code signing configuration {arn} can not be found."):
            ask(CodeSigningConfigArn=arn)


def given_to_a_function_and_taken_away():
    api = client()
    arn = config(api)["CodeSigningConfigArn"]
    for name in ["b", "a", "c"]:
        create(api, name, ECHO)
    assert "CodeSigningConfigArn" not in api.get_function_code_signing_config(FunctionName="a")
    before = api.get_function_configuration(FunctionName="a")["RevisionId"]
    for name in ["b", "a", "c"]:
        put = api.put_function_code_signing_config(
            FunctionName=FUNCTION + name, CodeSigningConfigArn=arn)
        assert (put["CodeSigningConfigArn"], put["FunctionName"]) == (arn, name), put
    got = api.get_function_code_signing_config(FunctionName="a")
    assert (got["CodeSigningConfigArn"], got["FunctionName"]) == (arn, "a"), got
    assert api.get_function_configuration(FunctionName="a")["RevisionId"] == before
    pages = api.get_paginator("list_functions_by_code_signing_config").paginate(
        CodeSigningConfigArn=arn, PaginationConfig={"PageSize": 2})
    listed = [page["FunctionArns"] for page in pages]
    assert listed == [[FUNCTION + "a", FUNCTION + "b"], [FUNCTION + "c"]], listed

    with refused("ResourceConflictException", 409, arn):
        api.delete_code_signing_config(CodeSigningConfigArn=arn)
    gone = api.delete_function_code_signing_config(FunctionName="a")
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    api.delete_function_code_signing_config(FunctionName="a")
    api.delete_function(FunctionName="b")
    listed = api.list_functions_by_code_signing_config(CodeSigningConfigArn=arn)
    assert listed["FunctionArns"] == [FUNCTION + "c"], listed
    with refused("ResourceConflictException", 409, arn):
        api.delete_code_signing_config(CodeSigningConfigArn=arn)
    api.delete_function(FunctionName="c")
    api.delete_code_signing_config(CodeSigningConfigArn=arn)


def enforced_where_nothing_can_be_signed():
    api = client()
    arn = config(api, "Enforce")["CodeSigningConfigArn"]
    create(api, "f", ECHO)
    layer = api.publish_layer_version(LayerName="l", Content={"ZipFile": pack({"x": "x"})})
    with refused("CodeVerificationFailedException", 400, UNSIGNED):
        create(api, "g", ECHO, CodeSigningConfigArn=arn)
    with refused("ResourceNotFoundException", 404):
        api.get_function(FunctionName="g")
    api.put_function_code_signing_config(FunctionName="f", CodeSigningConfigArn=arn)
    # What is deployed already goes on, and its other settings may change.
    assert run(api, "f", 1) == 1
    api.update_function_configuration(FunctionName="f", Timeout=5)
    settle(api, "f")
    assert api.publish_version(FunctionName="f")["Version"] == "1"
    new = pack({"app.py": "def handler(event, context):\n    return 'new'\n"})
    for more in [{}, {"DryRun": True}, {"Publish": True}]:
        with refused("CodeVerificationFailedException", 400, UNSIGNED):
            api.update_function_code(FunctionName="f", ZipFile=new, **more)
    with refused("CodeVerificationFailedException", 400, UNSIGNED):
        api.update_function_configuration(FunctionName="f", Layers=[layer["LayerVersionArn"]])
    assert run(api, "f", 1) == 1
    api.update_code_signing_config(
        CodeSigningConfigArn=arn, CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Warn"})
    api.update_function_code(FunctionName="f", ZipFile=new)
    settle(api, "f")
    assert run(api, "f", 1) == "new"


def warned_of_and_let_through():
    api = client()
    arn = config(api, "Warn")["CodeSigningConfigArn"]
    create(api, "f", ECHO, CodeSigningConfigArn=arn)
    assert api.get_function_code_signing_config(FunctionName="f")["CodeSigningConfigArn"] == arn
    api.update_function_code(FunctionName="f", ZipFile=pack({"app.py": ECHO + "\n"}))
    settle(api, "f")
    assert run(api, "f", 3) == 3
    log = pathlib.Path(os.environ["LAMU_TEST_LOG"]).read_text()
    warned = [line for line in log.splitlines() if "unsigned code is deployed" in line]
    assert len(warned) == 2 and all(arn in line for line in warned), warned


def wrong_requests_get_lambdas_words():
    api = client()
    create(api, "f", ECHO)
    arn = config(api)["CodeSigningConfigArn"]
    deleted = f"The code signing configuration cannot be found. Check that the provided configuration is not deleted: {ABSENT}."
    with refused("CodeSigningConfigNotFoundException", 404, deleted):
        api.put_function_code_signing_config(FunctionName="f", CodeSigningConfigArn=ABSENT)
    with refused("CodeSigningConfigNotFoundException", 404, deleted):
        create(api, "g", ECHO, CodeSigningConfigArn=ABSENT)
    theirs = ABSENT.replace(ACCOUNT, "999999999999")
    with refused("AccessDeniedException", 403, theirs):
        api.put_function_code_signing_config(FunctionName="f", CodeSigningConfigArn=theirs)
    with refused("AccessDeniedException", 403, theirs):
        api.get_code_signing_config(CodeSigningConfigArn=theirs)
    for ask in [lambda name: api.put_function_code_signing_config(FunctionName=name, CodeSigningConfigArn=arn),
                lambda name: api.get_function_code_signing_config(FunctionName=name),
                lambda name: api.delete_function_code_signing_config(FunctionName=name)]:
        with refused("ResourceNotFoundException", 404, f"Function not found: {FUNCTION}absent"):
            ask("absent")
        with refused("InvalidParameterValueException", 400, "permitted on Lambda functions only"):
            ask("f:1")
    for publishers in [[PROFILE] * 21, ["nothing"]]:
        with refused("ValidationException", 400, "allowedPublishers.signingProfileVersionArns"):
            api.create_code_signing_config(AllowedPublishers={"SigningProfileVersionArns": publishers})
    with refused("ValidationException", 400, "codeSigningPolicies.untrustedArtifactOnDeployment"):
        config(api, "Perhaps")
    with refused("ValidationException", 400, "at 'codeSigningConfigArn'"):
        api.get_code_signing_config(CodeSigningConfigArn="nothing")
    with refused("InvalidParameterValueException", 400, "aws:"):
        config(api, Tags={"aws:x": "1"})


def made_and_given():
    api = client()
    made = config(api, "Enforce", Description="kept")
    create(api, "f", ECHO)
    api.put_function_code_signing_config(
        FunctionName="f", CodeSigningConfigArn=made["CodeSigningConfigArn"])


def still_enforced():
    api = client()
    made = api.list_code_signing_configs()["CodeSigningConfigs"]
    assert [one["Description"] for one in made] == ["kept"], made
    arn = made[0]["CodeSigningConfigArn"]
    assert api.get_function_code_signing_config(FunctionName="f")["CodeSigningConfigArn"] == arn
    with refused("CodeVerificationFailedException", 400, UNSIGNED):
        api.update_function_code(FunctionName="f", ZipFile=pack({"app.py": ECHO + "\n"}))
    assert run(api, "f", 1) == 1


main(globals())
