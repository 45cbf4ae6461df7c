#!/opt/sentinel/bin/python -IS
"""Whether what runs in this container is ready: exit code 0 or 1, and why on standard output.

Usage: sentinel-health [URL]. Without one it asks the server for /health/ready where its settings say that it listens.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request

_PATIENCE_S = 2.5


def url() -> str:
    """Where the server of this container says whether it is ready."""
    scheme = "https" if os.environ.get("SENTINEL_TLS_CERTIFICATE") else "http"
    return f"{scheme}://127.0.0.1:{os.environ.get('SENTINEL_PORT', '8000')}/health/ready"


def ask(where: str) -> tuple[bool, str]:
    """Whether there is an answer with status 200, and what it says.

    The certificate is not checked: it is for other names than 127.0.0.1, and who answers there is in this container.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if where.startswith("https") else None
    if context is not None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(where, timeout=_PATIENCE_S, context=context) as answer:
            return answer.status == 200, answer.read(500).decode(errors="replace")
    except urllib.error.HTTPError as problem:
        return False, f"{problem.code} {problem.read(500).decode(errors='replace')}"
    except OSError as problem:
        return False, str(problem)


if __name__ == "__main__":
    ready, said = ask(sys.argv[1] if len(sys.argv) > 1 else url())
    sys.stdout.write(said + "\n")
    sys.exit(0 if ready else 1)
