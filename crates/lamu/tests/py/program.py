"""Functions that tests of the program itself call."""

from common import client, create, main


def sleeper_is_there():
    create(client(), "sleeper", """
import time
def handler(event, context):
    time.sleep(event['s'])
    return 'slept'
""", Timeout=60)


main(globals())
