"""Greets whoever the event names, and logs about it."""

import logging
import os

logger = logging.getLogger()
logger.setLevel(logging.INFO)

# Runs once per execution environment, during Init.
greeting = os.environ.get("GREETING", "Hello")
calls = 0


def lambda_handler(event, context):
    global calls
    calls += 1
    name = event.get("name", "world")
    logger.info("greeting %s, call %d in this environment", name, calls)
    print(f"{context.get_remaining_time_in_millis()} ms left of the timeout")
    return {
        "message": f"{greeting}, {name}!",
        "call": calls,
        "request_id": context.aws_request_id,
        "function": context.invoked_function_arn,
        "memory_mb": context.memory_limit_in_mb,
    }
