// Streamed responses as the JavaScript SDK v3 reads them.
'use strict';

const assert = require('assert');
const { LambdaClient, InvokeWithResponseStreamCommand, InvokeCommand } = require('@aws-sdk/client-lambda');

const client = new LambdaClient({
  endpoint: process.env.AWS_ENDPOINT_URL,
  region: process.env.AWS_DEFAULT_REGION || 'us-east-1',
  maxAttempts: 1,
});

async function stream(name, event, more = {}) {
  const command = { FunctionName: name, Payload: JSON.stringify(event), ...more };
  const answer = await client.send(new InvokeWithResponseStreamCommand(command));
  assert.strictEqual(answer.StatusCode, 200);
  assert.strictEqual(answer.ExecutedVersion, '$LATEST');
  const chunks = [];
  let bytes = 0;
  let complete;
  for await (const part of answer.EventStream) {
    assert.strictEqual(complete, undefined, 'InvokeComplete is the last');
    if (part.PayloadChunk) {
      bytes += part.PayloadChunk.Payload.length;
      chunks.push(Buffer.from(part.PayloadChunk.Payload).toString());
    } else complete = part.InvokeComplete;
  }
  assert.notStrictEqual(complete, undefined, 'InvokeComplete came');
  return { chunks, bytes, complete };
}

async function main() {
  const normal = await stream('f', { pieces: ['one', 'two'], pause: 200 });
  assert.deepStrictEqual(normal.chunks, ['one', 'two']);
  assert.strictEqual(normal.complete.ErrorCode, undefined);

  const whole = await stream('whole', { k: 'ü' }, { LogType: 'Tail' });
  assert.deepStrictEqual(JSON.parse(whole.chunks.join('')), { k: 'ü' });
  assert.match(Buffer.from(whole.complete.LogResult, 'base64').toString(), /REPORT RequestId/);

  const first = await stream('f', { throws: 'first' });
  assert.deepStrictEqual(first.chunks, []);
  assert.strictEqual(JSON.parse(first.complete.ErrorDetails).errorType, 'TypeError');

  const half = await stream('f', { pieces: ['half'], throws: 'half way' });
  assert.deepStrictEqual(half.chunks, ['half']);
  assert.strictEqual(half.complete.ErrorCode, 'Unhandled');
  assert.strictEqual(JSON.parse(half.complete.ErrorDetails).errorMessage, 'half way');

  const crashed = await stream('f', { pieces: ['half'], exits: 1 });
  assert.deepStrictEqual(crashed.chunks, ['half']);
  assert.strictEqual(crashed.complete.ErrorCode, 'Runtime.ExitError');

  const late = await stream('f', { pieces: ['half'], hangs: true });
  assert.deepStrictEqual(late.chunks, ['half']);
  assert.strictEqual(late.complete.ErrorCode, 'Sandbox.Timedout');

  const large = await stream('f', { megabytes: 30 });
  assert.strictEqual(large.bytes, 30 << 20);

  const collected = await client.send(
    new InvokeCommand({ FunctionName: 'f', Payload: JSON.stringify({ pieces: ['"a', 'b"'] }) }),
  );
  assert.strictEqual(JSON.parse(Buffer.from(collected.Payload).toString()), 'ab');

  await assert.rejects(stream('nobody', {}), { name: 'ResourceNotFoundException' });
  console.log('all as promised');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
