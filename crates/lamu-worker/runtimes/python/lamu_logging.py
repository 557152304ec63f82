"""The handler that the root logger gets when a function imports logging.

Not here: noticing the import, and writing records (`lamu_runtime`).
"""

import os
import time

import lamu_runtime

_LEVELS = {"TRACE": "DEBUG", "FATAL": "CRITICAL"}


def configure(logging):
    as_json = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"

    class LambdaLoggerHandler(logging.Handler):
        def emit(self, record):
            try:
                lamu_runtime.log_record(self.format(record))
            except Exception:
                self.handleError(record)

    class JsonFormatter(logging.Formatter):
        # Everything a record has by itself; the rest came with `extra`.
        usual = set(logging.LogRecord("", 0, "", 0, "", (), None).__dict__)
        usual |= {"aws_request_id", "message", "asctime"}

        def format(self, record):
            result = {
                "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
                "level": record.levelname,
                "message": record.getMessage(),
                "logger": record.name,
            }
            if record.exc_info and record.exc_info[0] is not None:
                import traceback

                kind, value, trace = record.exc_info
                result["stackTrace"] = traceback.format_tb(trace)
                result["errorType"] = kind.__name__
                result["errorMessage"] = str(value)
                result["location"] = "%s:%s:%d" % (
                    record.pathname,
                    record.funcName,
                    record.lineno,
                )
            if record.aws_request_id:
                result["requestId"] = record.aws_request_id
            for name, value in record.__dict__.items():
                if name not in self.usual and name not in result:
                    result[name] = value
            try:
                return lamu_runtime.to_json(result)
            except (TypeError, ValueError):
                # What has no JSON form is shown as Python shows it.
                shown = {name: str(value) for name, value in result.items()}
                return lamu_runtime.to_json(shown)

    def add_request_id(record):
        record.aws_request_id = lamu_runtime.request_id
        return True

    logging.Formatter.converter = time.gmtime
    handler = LambdaLoggerHandler()
    handler.addFilter(add_request_id)
    root = logging.getLogger()
    if as_json:
        handler.setFormatter(JsonFormatter())
        level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
        level = getattr(logging, _LEVELS.get(level, level), None)
        if isinstance(level, int):
            root.setLevel(level)
    else:
        line = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
        handler.setFormatter(logging.Formatter(line, "%Y-%m-%dT%H:%M:%S"))
    root.addHandler(handler)
