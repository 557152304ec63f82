"""lamu's Python runtime: imports the handler, then event by event calls it.

Works with Python 3.8 to 3.14, started with -S. What a small function does not
need is not imported: no site, no json (only its C core), no logging, no
traceback until someone asks for them. A start is mostly imports.

Events come over the socket `_LAMU_RUNTIME_FD` (protocol: lamu-init,
`direct.rs`), one read and one write per event. Log records go framed to the
pipe `_LAMBDA_TELEMETRY_LOG_FD`, so that a print with line ends in it stays one
record.

Not here: error shapes and their log lines (`lamu_errors`), the logging
handler (`lamu_logging`).
"""

import builtins
import os
import struct
import sys
import time
from _thread import allocate_lock

# ---- JSON: the C core of the json module, without its Python part, which
# ---- imports re and enum. Errors are left to the real module to explain.


class _Strictness:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo = {}

    @staticmethod
    def parse_constant(name):
        return {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}[name]


def _not_serializable(value):
    if type(value).__name__ == "Decimal":
        return float(value)
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


# Newer runtimes leave non-ASCII text as it is.
_ENSURE_ASCII = sys.version_info < (3, 12)

try:
    import _json

    _scan = _json.make_scanner(_Strictness)
    _quote = _json.encode_basestring_ascii if _ENSURE_ASCII else _json.encode_basestring

    def from_json(text):
        try:
            stripped = text.strip(" \t\n\r")
            value, end = _scan(stripped, 0)
            if end == len(stripped):
                return value
        except Exception:
            pass
        import json

        return json.loads(text)

    def to_json(value):
        # The markers find cycles, so they are made anew each time.
        encode = _json.make_encoder(
            {}, _not_serializable, _quote, None, ": ", ", ", False, False, True
        )
        return "".join(encode(value, 0))

    if to_json({"a": [1, "b", None]}) != '{"a": [1, "b", null]}':
        raise ImportError("unknown _json")
except Exception:
    import json

    from_json = json.loads

    def to_json(value):
        return json.dumps(value, ensure_ascii=_ENSURE_ASCII, default=_not_serializable)


# ---- log records

_FRAME = struct.Struct(">IIQ")
_FRAME_TYPE = 0xA55A0003
# An unended line longer than this becomes a record as it is.
_LINE_CHARS_MAX = 64 * 1024

_log_fd = None
_log_lock = allocate_lock()


def write_all(fd, data):
    sent = os.write(fd, data)
    while sent < len(data):
        data = memoryview(data)[sent:]
        sent = os.write(fd, data)


def log_record(text):
    """One log record, whatever line ends it holds."""
    data = text.encode("utf-8", "backslashreplace")
    if _log_fd is None:
        write_all(1, data + b"\n")
        return
    frame = _FRAME.pack(_FRAME_TYPE, len(data), time.time_ns() // 1000) + data
    # Longer writes to a pipe may be torn apart by those of other threads.
    with _log_lock:
        write_all(_log_fd, frame)


class RecordStream:
    """Stands in for sys.stdout and sys.stderr: what is written up to a line
    end at the end of a write is one record."""

    def __init__(self, raw):
        self._raw = raw
        self._pending = ""
        self._raw_used = False

    def write(self, text):
        if type(text) is not str and not isinstance(text, str):
            raise TypeError("write() argument must be str, not " + type(text).__name__)
        if text.endswith("\n"):
            record = self._pending + text[:-1]
            self._pending = ""
            log_record(record)
        elif text:
            self._pending += text
            if len(self._pending) > _LINE_CHARS_MAX:
                self.flush()
        return len(text)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        if self._pending:
            record = self._pending
            self._pending = ""
            log_record(record)
        if self._raw_used:
            self._raw.flush()

    @property
    def buffer(self):
        self._raw_used = True
        return self._raw.buffer

    def fileno(self):
        return self._raw.fileno()

    def __getattr__(self, name):
        return getattr(self._raw, name)


# ---- the context object, as Lambda's documentation names its parts

request_id = ""


class CognitoIdentity:
    __slots__ = ["cognito_identity_id", "cognito_identity_pool_id"]

    def __init__(self, values):
        self.cognito_identity_id = values.get("cognitoIdentityId")
        self.cognito_identity_pool_id = values.get("cognitoIdentityPoolId")

    def __repr__(self):
        return _shown(self, self.__slots__)


class Client:
    __slots__ = [
        "installation_id",
        "app_title",
        "app_version_name",
        "app_version_code",
        "app_package_name",
    ]

    def __init__(self, values):
        for name in self.__slots__:
            setattr(self, name, values.get(name))

    def __repr__(self):
        return _shown(self, self.__slots__)


class ClientContext:
    __slots__ = ["custom", "env", "client"]

    def __init__(self, values):
        client = values.get("client")
        self.custom = values.get("custom")
        self.env = values.get("env")
        self.client = None if client is None else Client(client)

    def __repr__(self):
        return _shown(self, self.__slots__)


class LambdaContext:
    function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
    function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
    memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
    log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")

    def __init__(self, aws_request_id, deadline_ms, arn, client_context, identity, tenant_id):
        self.aws_request_id = aws_request_id
        self.invoked_function_arn = arn
        self.client_context = client_context
        self.identity = identity
        self.tenant_id = tenant_id
        self._epoch_deadline_time_in_ms = deadline_ms

    def get_remaining_time_in_millis(self):
        return max(self._epoch_deadline_time_in_ms - int(time.time() * 1000), 0)

    def log(self, msg):
        log_record(str(msg))

    def __repr__(self):
        names = ["aws_request_id", "log_group_name", "log_stream_name", "function_name"]
        names += ["memory_limit_in_mb", "function_version", "invoked_function_arn"]
        names += ["client_context", "identity", "tenant_id"]
        return _shown(self, names)


def _shown(value, names):
    parts = ["%s=%s" % (name, getattr(value, name)) for name in names]
    return "%s([%s])" % (type(value).__name__, ",".join(parts))


class Fault(Exception):
    """An error that the runtime words itself."""

    def __init__(self, error_type, message, stack_trace=None):
        Exception.__init__(self, message)
        self.error_type = error_type
        self.message = message
        self.stack_trace = stack_trace


# ---- the handler


def load_handler(name):
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        raise Fault(
            "Runtime.MalformedHandlerName",
            "Bad handler '%s': not enough values to unpack (expected 2, got 1)" % name,
        )
    imported = module_name.replace("/", ".")
    if imported.split(".")[0] in sys.builtin_module_names:
        raise Fault(
            "Runtime.BuiltInModuleConflict",
            "Cannot use built-in module %s as a handler module" % imported,
        )
    try:
        __import__(imported)
        module = sys.modules[imported]
    except ImportError as error:
        raise Fault(
            "Runtime.ImportModuleError",
            "Unable to import module '%s': %s" % (module_name, error),
        )
    except SyntaxError as error:
        place = '  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)
        raise Fault(
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module '%s': %s" % (module_name, error),
            [place],
        )
    except (ValueError, KeyError) as error:
        # A name that cannot be a module's (`.f`, `a..b.f`).
        if imported and ".." not in imported and not imported.startswith("."):
            raise
        raise Fault(
            "Runtime.ImportModuleError",
            "Unable to import module '%s': %s" % (module_name, error),
        )
    try:
        return getattr(module, function_name)
    except AttributeError:
        raise Fault(
            "Runtime.HandlerNotFound",
            "Handler '%s' missing on module '%s'" % (function_name, module_name),
        )


# ---- the conversation with init

_EVENT = struct.Struct("<IQ6I")
_LENGTH = struct.Struct("<I")
_NEXT = b"\x01\x00\x00\x00\x01"
_READ_BYTES = 32 * 1024


def _say(kind, first, second, body):
    """A report; see lamu-init, `direct.rs`."""
    text = bytes((kind,))
    for part in (first, second):
        if part is not None:
            part = part.encode()[:255]
            text += bytes((len(part),)) + part
    return _LENGTH.pack(len(text) + len(body)) + text + body


def _receive(fd):
    data = os.read(fd, _READ_BYTES)
    if len(data) >= 4 and len(data) == 4 + _LENGTH.unpack_from(data)[0]:
        return data
    data = bytearray(data)
    while len(data) < 4 or len(data) < 4 + _LENGTH.unpack_from(data)[0]:
        wanted = 4 if len(data) < 4 else 4 + _LENGTH.unpack_from(data)[0] - len(data)
        piece = os.read(fd, max(wanted, _READ_BYTES))
        if not piece:
            # Init is gone, or refused what we said.
            os._exit(1)
        data += piece
    return bytes(data)


def _call(handler, data):
    """Hands one event to the handler and returns the report."""
    global request_id
    (_, deadline_ms, *lengths) = _EVENT.unpack_from(data)
    at = _EVENT.size
    texts = []
    for length in lengths:
        texts.append(data[at : at + length].decode() if length else None)
        at += length
    (request_id, arn, trace_id, client_context, identity, tenant_id) = texts
    if trace_id is not None:
        os.environ["_X_AMZN_TRACE_ID"] = trace_id
    elif "_X_AMZN_TRACE_ID" in os.environ:
        del os.environ["_X_AMZN_TRACE_ID"]
    try:
        try:
            client_context = client_context and ClientContext(from_json(client_context))
            identity = CognitoIdentity(from_json(identity) if identity else {})
        except Exception as error:
            raise Fault(
                "Runtime.LambdaContextUnmarshalError",
                "Unable to parse Client Context JSON: %s" % error,
            )
        context = LambdaContext(
            request_id, deadline_ms, arn, client_context, identity, tenant_id
        )
        try:
            event = from_json(data[at:].decode())
        except Exception as error:
            raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % error)
        result = handler(event, context)
        try:
            body = to_json(result).encode()
        except Exception as error:
            raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % error)
    except Exception as error:
        import lamu_errors

        shape = lamu_errors.describe(error, request_id)
        _flush()
        lamu_errors.log(shape)
        return _say(3, request_id, shape["errorType"], to_json(shape).encode())
    return _say(2, request_id, "", body)


def _flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            # User code may have put anything there.
            pass


def _serve(fd, handler):
    said = _NEXT
    while True:
        write_all(fd, said)
        said = _call(handler, _receive(fd)) + _NEXT
        _flush()


# ---- set-up


class _LoggingHook:
    """Notices the first import of logging and gives its root a handler."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(cls)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                cls._extend(spec.loader)
                return spec
        return None

    @staticmethod
    def _extend(loader):
        execute = loader.exec_module

        def exec_module(module):
            execute(module)
            del loader.exec_module
            import lamu_logging

            lamu_logging.configure(module)

        loader.exec_module = exec_module


def _set_up_logs():
    global _log_fd
    fd = os.environ.pop("_LAMBDA_TELEMETRY_LOG_FD", None)
    if fd is not None:
        _log_fd = int(fd)
        os.set_inheritable(_log_fd, False)
    sys.stdout = RecordStream(sys.stdout)
    sys.stderr = RecordStream(sys.stderr)
    if "logging" in sys.modules:
        import lamu_logging

        lamu_logging.configure(sys.modules["logging"])
    else:
        sys.meta_path.insert(0, _LoggingHook)


def _set_up_paths():
    """Lambda's order: code, layers, this runtime, the interpreter's own."""
    version = "python%d.%d" % sys.version_info[:2]
    task_root = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
    runtime = sys.path[0]
    layers = ["/opt/python/lib/%s/site-packages" % version, "/opt/python"]
    # Under -S nobody added these; Debian keeps its packages elsewhere.
    packages = ["%s/lib/%s/site-packages" % (sys.prefix, version)]
    if sys.prefix == "/usr":
        packages.append("/usr/local/lib/%s/dist-packages" % version)
        packages.append("/usr/lib/python3/dist-packages")
    packages = [path for path in packages if path not in sys.path and os.path.isdir(path)]
    sys.path[0:1] = [task_root] + layers + [runtime]
    sys.path += packages


def _set_up_builtins():
    """What site would have added and functions are known to use."""
    import _sitebuiltins

    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")
    try:
        # Layers of monitoring tools start themselves this way.
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise


def main():
    fd = int(os.environ.pop("_LAMU_RUNTIME_FD"))
    os.set_inheritable(fd, False)
    _set_up_paths()
    _set_up_logs()
    try:
        try:
            _set_up_builtins()
            handler = load_handler(os.environ.get("_HANDLER", ""))
        except Exception as error:
            import lamu_errors

            shape = lamu_errors.describe(error, "")
            _flush()
            lamu_errors.log(shape)
            write_all(fd, _say(4, shape["errorType"], None, to_json(shape).encode()))
            sys.exit(1)
        _serve(fd, handler)
    finally:
        # A handler may end the process; its last words count.
        _flush()
