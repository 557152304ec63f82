// lamu's Node runtime: loads the handler, then event by event calls it.
//
// Works with Node 18 to 24, handlers as CommonJS or ES modules. Events come
// over the socket `_LAMU_RUNTIME_FD` (protocol: lamu-init, `direct.rs`), one
// read and one write per event. Log records go framed to the pipe
// `_LAMBDA_TELEMETRY_LOG_FD`, so that one with line ends in it stays one.
//
// While a handler runs, the socket does not keep the event loop alive: a loop
// that runs empty is how Lambda notices that a callback handler is done.
//
// A streamed response goes the same way in pieces. Not here: collecting it for
// a caller that takes no stream (init does).
'use strict';

const fs = require('fs');
const path = require('path');
const util = require('util');

const env = process.env;
const NODE_MAJOR = Number(process.versions.node.split('.')[0]);
const AS_JSON = (env.AWS_LAMBDA_LOG_FORMAT || '').toUpperCase() === 'JSON';

// Lambda's own exit codes for errors that nobody caught.
const EXIT_UNHANDLED_REJECTION = 128;
const EXIT_UNCAUGHT_EXCEPTION = 129;

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');

let socketFd = -1;
let requestId; // of the invocation under way
let phase = 'init'; // init, invoke, idle; dead: ends when its last word is out
let onEmptyLoop = null;
let failStream = null; // while a stream has begun and not ended

// ---- log records

const LEVELS = { TRACE: 10, DEBUG: 20, INFO: 30, WARN: 40, ERROR: 50, FATAL: 60 };
const levelMin = (AS_JSON && LEVELS[(env.AWS_LAMBDA_LOG_LEVEL || '').toUpperCase()]) || 0;
const FRAME_TYPE = 0xa55a0003;
let logFd = -1;

function writeAll(fd, bytes) {
  let sent = 0;
  while (sent < bytes.length) {
    try {
      sent += fs.writeSync(fd, bytes, sent);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}

function logRecord(text) {
  if (logFd < 0) {
    writeAll(1, Buffer.from(text.replace(/\n/g, '\r') + '\n'));
    return;
  }
  const length = Buffer.byteLength(text);
  const frame = Buffer.allocUnsafe(16 + length);
  const now = Date.now();
  frame.writeUInt32BE(FRAME_TYPE, 0);
  frame.writeUInt32BE(length, 4);
  frame.writeBigUInt64BE(BigInt(now) * 1000n, 8);
  frame.write(text, 16);
  writeAll(logFd, frame);
}

function log(level, args) {
  if (LEVELS[level] < levelMin) return;
  const time = new Date().toISOString();
  if (AS_JSON) {
    logRecord(jsonLine(time, level, args));
  } else {
    logRecord(`${time}\t${requestId}\t${level}\t${util.format(...args)}`);
  }
}

function jsonLine(timestamp, level, args) {
  const line = { timestamp, level, requestId };
  if (args.length === 1) {
    line.message = args[0];
    try {
      return JSON.stringify(line, (_, value) => (isError(value) ? errorFields(value) : value));
    } catch {
      line.message = util.format(args[0]);
      return JSON.stringify(line);
    }
  }
  line.message = util.format(...args);
  const error = args.find(isError);
  if (error) Object.assign(line, errorFields(error));
  return JSON.stringify(line);
}

function errorFields(error) {
  return {
    errorType: error.name || (error.constructor && error.constructor.name) || 'UnknownError',
    errorMessage: error.message,
    stackTrace: typeof error.stack === 'string' ? error.stack.split('\n') : [],
  };
}

function patchConsole() {
  if (env._LAMBDA_TELEMETRY_LOG_FD !== undefined) {
    logFd = Number(env._LAMBDA_TELEMETRY_LOG_FD);
    delete env._LAMBDA_TELEMETRY_LOG_FD;
  }
  const methods = { log: 'INFO', info: 'INFO', debug: 'DEBUG', warn: 'WARN', error: 'ERROR' };
  Object.assign(methods, { trace: 'TRACE', fatal: 'FATAL' });
  for (const [name, level] of Object.entries(methods)) {
    console[name] = (...args) => log(level, args);
  }
}

// ---- errors

class RuntimeError extends Error {
  constructor(type, message) {
    super(message);
    this.name = `Runtime.${type}`;
  }
}

function isError(value) {
  return util.types.isNativeError(value) || value instanceof Error;
}

/** The error as Lambda's Node runtime shapes it for the caller. */
function describe(error) {
  if (isError(error)) {
    return {
      errorType: String(error.name),
      errorMessage: String(error.message),
      trace: typeof error.stack === 'string' ? error.stack.split('\n') : [],
    };
  }
  let errorMessage;
  try {
    errorMessage = String(error);
  } catch {
    errorMessage = Object.prototype.toString.call(error);
  }
  return { errorType: error === null ? 'object' : typeof error, errorMessage, trace: [] };
}

/** The same for the log: with whatever else the error carries. */
function logError(title, error) {
  if (AS_JSON) {
    console.error(title, isError(error) ? error : new Error(String(error)));
    return;
  }
  const replacer = (_, value) => {
    if (!isError(value)) return value;
    const { name: errorType, message: errorMessage, code } = value;
    const fields = Object.assign({ errorType, errorMessage, code }, value);
    delete fields.name;
    if (typeof value.stack === 'string') fields.stack = value.stack.split('\n');
    return fields;
  };
  let text;
  try {
    text = JSON.stringify(error, replacer);
  } catch {
    text = JSON.stringify(describe(error));
  }
  console.error(title, `\t${text}`);
}

function die(title, error, exitCode) {
  if (phase === 'dead') return; // as soon as the first error is out
  try {
    logError(title, error);
    const shape = describe(error);
    const body = Buffer.from(JSON.stringify(shape));
    if (phase === 'init') {
      writeAll(socketFd, say(4, [shape.errorType], body));
    } else if (phase === 'invoke') {
      if (failStream !== null) return failStream(shape.errorType, body, exitCode);
      writeAll(socketFd, say(3, [requestId, shape.errorType], body));
    }
  } catch {
    // Init is gone; so are we.
  }
  process.exit(exitCode);
}

// ---- the handler

function parseHandler(full) {
  if (full.includes('..')) {
    throw new RuntimeError(
      'MalformedHandlerName',
      `'${full}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
    );
  }
  const base = path.basename(full);
  const match = base.match(/^([^.]*)\.(.*)$/);
  if (!match || match[2] === '') throw new RuntimeError('MalformedHandlerName', 'Bad handler');
  return { directory: full.slice(0, full.length - base.length), module: match[1], name: match[2] };
}

function isModulePackage(file) {
  for (let directory = path.dirname(file); ; directory = path.dirname(directory)) {
    try {
      const text = fs.readFileSync(path.join(directory, 'package.json'), 'utf8');
      return JSON.parse(text).type === 'module';
    } catch (error) {
      if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') return false;
    }
    if (directory === path.dirname(directory)) return false;
  }
}

function isFile(file) {
  try {
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

async function loadModule(root, directory, module) {
  const plain = path.resolve(root, directory, module);
  for (const extension of ['', '.js', '.mjs', '.cjs']) {
    const file = plain + extension;
    if (!isFile(file)) continue;
    if (extension === '.mjs' || (extension === '.js' && isModulePackage(file))) {
      return import(require('url').pathToFileURL(file).href);
    }
    return require(file);
  }
  return require(require.resolve(module, { paths: [root, path.join(root, directory)] }));
}

async function loadHandler(full) {
  const { directory, module, name } = parseHandler(full);
  let found;
  try {
    found = await loadModule(env.LAMBDA_TASK_ROOT || '/var/task', directory, module);
  } catch (error) {
    if (error instanceof SyntaxError) throw wrap('UserCodeSyntaxError', error);
    if (error && (error.code === 'MODULE_NOT_FOUND' || error.code === 'ERR_MODULE_NOT_FOUND')) {
      throw wrap('ImportModuleError', error);
    }
    throw error;
  }
  const walk = (start) =>
    name.split('.').reduce((at, part) => (at === undefined || at === null ? at : at[part]), start);
  let handler = walk(found);
  // CommonJS seen through import() may only have a default.
  if (handler === undefined && found && found.default) handler = walk(found.default);
  if (handler === undefined || handler === null) {
    throw new RuntimeError('HandlerNotFound', `${full} is undefined or not exported`);
  }
  if (typeof handler !== 'function') {
    throw new RuntimeError('HandlerNotFound', `${full} is not a function`);
  }
  if (NODE_MAJOR >= 24 && handler.length >= 3 && !handler[STREAMING]) {
    throw new RuntimeError(
      'CallbackHandlerDeprecated',
      'AWS Lambda has removed support for callback-based function handlers starting with ' +
        'Node.js 24. You need to modify this function to use a supported handler signature to ' +
        'use Node.js 24 or later.',
    );
  }
  return handler;
}

function wrap(type, error) {
  const wrapped = new RuntimeError(type, String(error));
  wrapped.stack = typeof error.stack === 'string' ? `${wrapped.name}: ${error.stack}` : undefined;
  return wrapped;
}

// ---- streamed responses

// Larger writes go to init in pieces of this size (`direct.rs`).
const PIECE_BYTES = 65536;
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');

function invalidStreaming(name, message) {
  return Object.assign(new Error(message), { name });
}

/**
 * What a streaming handler writes to. A write is done when the kernel took
 * it, and init reads no further than the caller does: so a slow caller makes
 * `write` return false, and 'drain' follows.
 */
function responseStream(socket, id, highWaterMark) {
  const { Writable } = require('stream');
  let contentType = 'application/octet-stream';
  const begin = () => {
    stream.begun = true;
    socket.write(say(5, [id, contentType], NOTHING));
    if (typeof stream._onBeforeFirstWrite === 'function') {
      stream._onBeforeFirstWrite((bytes) => send(Buffer.from(bytes)));
    }
  };
  const send = (bytes) => {
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES);
      const head = Buffer.allocUnsafe(5);
      head.writeUInt32LE(1 + piece.length, 0);
      head[4] = 6;
      socket.write(head);
      socket.write(piece);
    }
  };
  // One call of the kernel for all of it, and `done` when that is through.
  const together = (write, done) => {
    if (stream.over) return done();
    socket.cork();
    if (!stream.begun) begin();
    write();
    socket.write(NOTHING, done);
    socket.uncork();
  };
  const stream = new Writable({
    highWaterMark,
    write(chunk, encoding, done) {
      const bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk, encoding);
      together(() => send(bytes), done);
    },
    final(done) {
      together(() => {}, done);
    },
  });
  stream.begun = false;
  stream.over = false; // its end is sent; who still writes, writes nowhere
  stream.setContentType = (type) => {
    if (stream.begun) {
      throw invalidStreaming('InvalidStreamingOperation', 'Cannot set content-type, too late.');
    }
    contentType = String(type);
  };
  // Objects are sent as JSON, as Lambda's own stream does.
  const asBytes = (chunk) =>
    typeof chunk === 'string' || Buffer.isBuffer(chunk) || chunk instanceof Uint8Array
      ? chunk
      : JSON.stringify(chunk);
  const { write, end } = stream;
  stream.write = (chunk, ...rest) => write.call(stream, asBytes(chunk), ...rest);
  stream.end = (chunk, ...rest) => {
    const none = chunk === undefined || chunk === null || typeof chunk === 'function';
    return end.call(stream, none ? chunk : asBytes(chunk), ...rest);
  };
  return stream;
}

globalThis.awslambda = {
  streamifyResponse(handler, options) {
    handler[STREAMING] = 'response';
    if (options && options.highWaterMark !== undefined) {
      handler[HIGH_WATER_MARK] = options.highWaterMark;
    }
    return handler;
  },
  HttpResponseStream: {
    from(stream, prelude) {
      stream.setContentType('application/vnd.awslambda.http-integration-response');
      const head = JSON.stringify(prelude);
      stream._onBeforeFirstWrite = (write) => {
        write(head);
        write(Buffer.alloc(8));
      };
      return stream;
    },
  },
};

// ---- the conversation with init

const NEXT = Buffer.from([1, 0, 0, 0, 1]);
const NOTHING = Buffer.alloc(0);

/** A report; see lamu-init, `direct.rs`. */
function say(kind, texts, body) {
  const parts = texts.map((text) => Buffer.from(String(text)).subarray(0, 255));
  const length = 1 + parts.reduce((sum, part) => sum + 1 + part.length, 0) + body.length;
  const bytes = Buffer.allocUnsafe(4 + length);
  bytes.writeUInt32LE(length, 0);
  bytes[4] = kind;
  let at = 5;
  for (const part of parts) {
    bytes[at] = part.length;
    part.copy(bytes, at + 1);
    at += 1 + part.length;
  }
  body.copy(bytes, at);
  return bytes;
}

function parseEvent(bytes) {
  const texts = [];
  let at = 4 + 8 + 6 * 4;
  for (let index = 0; index < 6; index++) {
    const length = bytes.readUInt32LE(12 + 4 * index);
    texts.push(length === 0 ? undefined : bytes.toString('utf8', at, at + length));
    at += length;
  }
  const [id, arn, traceId, clientContext, identity, tenantId] = texts;
  const deadline = Number(bytes.readBigUInt64LE(4));
  const body = bytes.toString('utf8', at);
  return { id, arn, traceId, clientContext, identity, tenantId, deadline, body };
}

function makeContext(event, finish) {
  const context = {
    callbackWaitsForEmptyEventLoop: true,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: event.clientContext && JSON.parse(event.clientContext),
    identity: event.identity && JSON.parse(event.identity),
    invokedFunctionArn: event.arn,
    awsRequestId: event.id,
    tenantId: event.tenantId,
    getRemainingTimeInMillis: () => event.deadline - Date.now(),
  };
  if (NODE_MAJOR < 24) {
    context.done = (error, result) => finish(error, result);
    context.succeed = (result) => finish(null, result);
    context.fail = (error) => finish(error === undefined || error === null ? 'handled' : error);
  }
  return context;
}

function serve(handler) {
  const net = require('net');
  const socket = new net.Socket({ fd: socketFd, readable: true, writable: true });
  let input = null;

  const answer = (report) => {
    // Logs of this event were written synchronously, so they are ahead.
    requestId = undefined;
    phase = 'idle';
    onEmptyLoop = null;
    socket.ref();
    socket.write(report.length < 65536 ? Buffer.concat([report, NEXT]) : report);
    if (report.length >= 65536) socket.write(NEXT);
  };

  const handle = (bytes) => {
    const event = parseEvent(bytes);
    requestId = event.id;
    phase = 'invoke';
    socket.unref();
    if (event.traceId === undefined) delete env._X_AMZN_TRACE_ID;
    else env._X_AMZN_TRACE_ID = event.traceId;

    let open = true;
    const fail = (error) => {
      if (!open || phase === 'dead') return;
      open = false;
      failStream = null;
      logError('Invoke Error', error);
      const shape = describe(error);
      answer(say(3, [event.id, shape.errorType], Buffer.from(JSON.stringify(shape))));
    };
    const succeed = (result) => {
      if (!open) return;
      let text;
      try {
        text = JSON.stringify(result === undefined ? null : result);
      } catch {
        return fail(new Error('Unable to stringify response body'));
      }
      open = false;
      answer(say(2, [event.id, ''], Buffer.from(text === undefined ? 'null' : text)));
    };
    const finish = (error, result) => {
      if (error !== undefined && error !== null) fail(error);
      else succeed(result);
    };
    // A handler of which nothing is heard any more has no result.
    onEmptyLoop = () => succeed(null);

    let context;
    try {
      context = makeContext(event, finish);
      const value = JSON.parse(event.body);
      if (handler[STREAMING]) {
        callStreaming(handler, value, context, event, socket, fail, (report) => {
          if (!open || phase === 'dead') return;
          open = false;
          failStream = null;
          answer(report);
        });
        return;
      }
      const callback = (error, result) => {
        if (!open) return;
        if ((error === undefined || error === null) && context.callbackWaitsForEmptyEventLoop) {
          onEmptyLoop = () => succeed(result);
        } else {
          finish(error, result);
        }
      };
      const result =
        NODE_MAJOR < 24 ? handler(value, context, callback) : handler(value, context);
      if (result && typeof result.then === 'function') {
        result.then(succeed, (error) => fail(error === undefined ? 'undefined' : error));
      } else if (NODE_MAJOR >= 24) {
        succeed(result);
      }
    } catch (error) {
      fail(error);
    }
  };

  socket.on('data', (bytes) => {
    // One event at a time: init sends the next only when asked.
    if (input === null && bytes.length >= 4 && bytes.length === 4 + bytes.readUInt32LE(0)) {
      handle(bytes);
      return;
    }
    if (input === null) input = { pieces: [], length: 0, wanted: 0 };
    input.pieces.push(bytes);
    input.length += bytes.length;
    if (input.wanted === 0 && input.length >= 4) {
      input.wanted = 4 + Buffer.concat(input.pieces).readUInt32LE(0);
    }
    if (input.wanted !== 0 && input.length >= input.wanted) {
      const whole = Buffer.concat(input.pieces);
      input = null;
      handle(whole);
    }
  });
  // Init is gone, or refused what we said.
  socket.on('error', () => process.exit(1));
  socket.on('close', () => process.exit(1));

  process.on('beforeExit', () => {
    if (onEmptyLoop === null) return;
    const finish = onEmptyLoop;
    onEmptyLoop = null;
    setImmediate(finish);
  });

  phase = 'idle';
  socket.write(NEXT);
}

function callStreaming(handler, value, context, event, socket, fail, answer) {
  const stream = responseStream(socket, event.id, handler[HIGH_WATER_MARK]);
  const end = (errorType, body) => say(7, [errorType], body);
  // Once the first byte is out, an error can only end the stream.
  const abort = (error) => {
    if (stream.over) return;
    stream.over = true;
    if (!stream.begun) return fail(error);
    logError('Invoke Error', error);
    const shape = describe(error);
    answer(end(shape.errorType || 'Error', Buffer.from(JSON.stringify(shape))));
  };
  failStream = (errorType, body, exitCode) => {
    if (!stream.begun) {
      writeAll(socketFd, say(3, [event.id, errorType], body));
      process.exit(exitCode);
    }
    // What was written before is ahead of it, and may wait for the caller.
    phase = 'dead';
    stream.over = true;
    socket.write(end(errorType, body), () => process.exit(exitCode));
  };
  const finished = new Promise((resolve, reject) => {
    stream.on('finish', resolve);
    stream.on('error', reject);
    // Destroyed without an error: nothing more will come.
    stream.on('close', () => {
      reject(invalidStreaming('InvalidStreamingOperation', 'The response stream was destroyed.'));
    });
  });
  finished.catch(abort);
  let result;
  try {
    result = handler(value, stream, context);
  } catch (error) {
    abort(error);
    return;
  }
  if (!result || typeof result.then !== 'function') {
    abort(new Error('Streaming does not support non-async handlers.'));
    return;
  }
  // A stream that nobody ended ends with the last work.
  onEmptyLoop = () => stream.end();
  const complete = () => {
    stream.over = true;
    answer(end('', NOTHING));
  };
  result.then(() => finished).then(complete, abort);
}

// ---- set-up

function main() {
  socketFd = Number(env._LAMU_RUNTIME_FD);
  delete env._LAMU_RUNTIME_FD;
  patchConsole();
  process.on('uncaughtException', (error) => {
    die('Uncaught Exception', error, EXIT_UNCAUGHT_EXCEPTION);
  });
  process.on('unhandledRejection', (reason, promise) => {
    const message = isError(reason) ? reason.toString() : describe(reason).errorMessage;
    const error = new RuntimeError('UnhandledPromiseRejection', message);
    error.reason = reason;
    error.promise = promise;
    if (isError(reason) && typeof reason.stack === 'string') {
      error.stack = `${error.name}: ${reason.stack}`;
    }
    die('Unhandled Promise Rejection', error, EXIT_UNHANDLED_REJECTION);
  });
  loadHandler(env._HANDLER || '').then(serve, (error) => die('Uncaught Exception', error, 1));
}

main();
