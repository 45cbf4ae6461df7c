"""Whether the server in this container, or with `console` the console, is as it should be: exit code 0, or 1."""

import json
import os
import sys
import urllib.error
import urllib.request


def main() -> int:
    """A server is ready, or stands by for the other one; the console lives. What was said is shown."""
    is_console = sys.argv[1:] == ["console"]
    port = os.environ["SENTINEL_CONSOLE_PORT" if is_console else "SENTINEL_PORT"]
    address = f"http://127.0.0.1:{port}/health/{'live' if is_console else 'ready'}"
    try:
        answer = urllib.request.urlopen(address, timeout=8)
    except urllib.error.HTTPError as error:
        answer = error
    except OSError as error:
        sys.stderr.write(f"nothing answers at {address}: {error}\n")
        return 1
    said = json.load(answer)
    sys.stdout.write(f"{json.dumps(said)}\n")
    return 0 if answer.status == 200 or said.get("reason") == "standby" else 1


if __name__ == "__main__":
    sys.exit(main())
