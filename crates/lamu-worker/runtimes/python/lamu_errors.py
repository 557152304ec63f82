"""What an error looks like to the caller and in the log.

Loaded with the first error. Not here: who raised it and when (`lamu_runtime`).
"""

import os
import time
import traceback

import lamu_runtime

_RUNTIME_DIRECTORY = os.path.dirname(os.path.abspath(__file__)) + os.sep
_INDENT = "\u00a0"


def describe(error, request_id):
    """The error as Lambda's Python runtime shapes it."""
    if isinstance(error, lamu_runtime.Fault):
        message, error_type, stack = error.message, error.error_type, error.stack_trace or []
    else:
        message, error_type = str(error), type(error).__name__
        # Plain tuples: without the column marks of newer versions.
        frames = [
            (frame.filename, frame.lineno, frame.name, frame.line)
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        # The user's frames only; ours, and the import machinery between, are
        # no news to anyone.
        for at, frame in enumerate(frames):
            ours = frame[0].startswith(_RUNTIME_DIRECTORY)
            if not ours and not frame[0].startswith("<frozen importlib"):
                frames = frames[at:]
                break
        stack = traceback.format_list(frames)
    return {
        "errorMessage": message,
        "errorType": error_type,
        "requestId": request_id,
        "stackTrace": stack,
    }


def log(shape):
    """Writes the error as one log record."""
    if os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON":
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record = {"timestamp": now, "log_level": "ERROR"}
        record.update(shape)
        lamu_runtime.log_record(lamu_runtime.to_json(record))
        return
    head = "[ERROR] " + shape["errorType"]
    if shape["errorMessage"]:
        head += ": " + shape["errorMessage"]
    lines = [head, "Traceback (most recent call last):"]
    for element in shape["stackTrace"]:
        for line in element.splitlines():
            text = line.lstrip(" ")
            # Plain leading spaces would be trimmed by log viewers.
            lines.append(_INDENT * (len(line) - len(text)) + text)
    lamu_runtime.log_record("\n".join(lines))
