"""The clients people use: AWS's own runtime clients inside, unchanged."""

import os
import pathlib
import zipfile
import io

from common import ROOT, call, client, create, fail, main, run, zip_of


def stock_python_client():
    site = next(pathlib.Path(ROOT, "target/venv/lib").glob("python3*/site-packages"))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name in ["awslambdaric", "simplejson", "snapshot_restore_py"]:
            for path in sorted((site / name).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    made.write(path, str(path.relative_to(site)))
        for path in site.glob("runtime_client*.so"):
            made.write(path, path.name)
        bootstrap = zipfile.ZipInfo("bootstrap")
        bootstrap.external_attr = 0o755 << 16
        made.writestr(bootstrap, "#!/bin/sh\nPYTHONPATH=/var/task exec /usr/bin/python3 -m awslambdaric \"$_HANDLER\"\n")
        app = zipfile.ZipInfo("app.py")
        app.external_attr = 0o644 << 16
        made.writestr(app, """
def handler(event, context):
    if event == 'fail':
        raise KeyError('k')
    print('through the stock client')
    return {'event': event, 'id': context.aws_request_id, 'arn': context.invoked_function_arn}
""")
    api = client()
    create(api, "f", out.getvalue(), runtime="provided.al2023", handler="app.handler", MemorySize=256, Timeout=20)
    answer = call(api, "f", {"a": [1, 2]}, LogType="Tail")
    assert "FunctionError" not in answer, answer["Bytes"]
    assert answer["Json"]["event"] == {"a": [1, 2]}
    assert answer["Json"]["id"] == answer["ResponseMetadata"]["RequestId"]
    assert "through the stock client" in answer["Log"]
    error = fail(api, "f", "fail")
    assert error["errorType"] == "KeyError", error
    for i in range(1, 20):
        assert run(api, "f", i)["event"] == i


def stock_node_client():
    modules = pathlib.Path(ROOT, "target/npm/node_modules")
    app = """
exports.handler = async (event, context) => {
  if (event === 'fail') throw new RangeError('far');
  return {event, id: context.awsRequestId};
};
"""
    bootstrap = "#!/bin/sh\nexec /usr/bin/node /var/task/node_modules/aws-lambda-ric/bin/index.mjs \"$_HANDLER\"\n"
    code = zip_of((modules, "node_modules/"), app__js=app, bootstrap=bootstrap)
    api = client()
    create(api, "f", code, runtime="provided.al2023", handler="app.handler", MemorySize=512, Timeout=20)
    answer = call(api, "f", {"a": 1})
    assert "FunctionError" not in answer, answer["Bytes"]
    assert answer["Json"]["event"] == {"a": 1}
    assert answer["Json"]["id"] == answer["ResponseMetadata"]["RequestId"]
    error = fail(api, "f", "fail")
    assert error["errorType"] == "RangeError" and error["errorMessage"] == "far", error


main(globals())
