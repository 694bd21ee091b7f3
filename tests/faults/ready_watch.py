"""Request GET /readyz until standard input ends, and print the latencies: `python ready_watch.py URL EVERY_S`.

A process of its own: who waits in the one that sends gigabytes measures that one. The standard library alone, so that it
starts at once.
"""

import http.client
import json
import select
import sys
import time
from urllib.parse import urlsplit


def main() -> None:
    address, every_s = urlsplit(sys.argv[1]), float(sys.argv[2])
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    _asked(connection)  # the connection isn't what is measured
    print("begun", flush=True)  # noqa: T201
    seconds: list[float] = []
    errors: list[str] = []
    while not select.select([sys.stdin], [], [], every_s)[0]:
        began = time.monotonic()
        status = _asked(connection)
        if status == "200":
            seconds.append(time.monotonic() - began)
        else:
            errors.append(status)
    print(json.dumps({"seconds": seconds, "errors": errors}), flush=True)  # noqa: T201


def _asked(connection: http.client.HTTPConnection) -> str:
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return type(error).__name__
    return str(answer.status)


if __name__ == "__main__":
    main()
