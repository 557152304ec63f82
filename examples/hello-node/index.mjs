// Greets whoever the event names, and logs about it.

// Runs once per execution environment, during Init.
const greeting = process.env.GREETING ?? "Hello";
let calls = 0;

export const handler = async (event, context) => {
  calls += 1;
  const name = event.name ?? "world";
  console.log(`greeting ${name}, call ${calls} in this environment`);
  return {
    message: `${greeting}, ${name}!`,
    call: calls,
    requestId: context.awsRequestId,
    function: context.invokedFunctionArn,
    msLeft: context.getRemainingTimeInMillis(),
  };
};
