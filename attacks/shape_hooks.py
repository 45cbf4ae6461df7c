"""What Schemathesis has done with every call of the attack `schema`: it gets a key, and its answer is counted.

Schemathesis imports this by its name (SCHEMATHESIS_HOOKS) in a process of its own. `ATTACK_KEYS` is the JSON of the
keys by scope, `ATTACK_COUNTS` the file that the counts are written to when it ends.
"""

import atexit
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis

from sentinel.transport.access.scopes import needed_scope

_KEYS: dict[str, str] = json.loads(os.environ["ATTACK_KEYS"])
_WRONG = "sk_" + "a" * 43
_chance = random.Random(15)
_answers: Counter[str] = Counter()
_asked = 0


@schemathesis.serializer("application/x-ndjson")
def _lines(_context: Any, value: Any) -> bytes:
    """Transactions one to a line, as they are shown; anything else as one line."""
    return value.encode("utf-8", "replace") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.hook
def before_call(_context: Any, case: Any, **_: Any) -> None:
    """Nine in ten calls are made with a key that may make them, or by the operator without one."""
    global _asked
    _asked += 1
    needed, drawn = needed_scope(case.method.upper(), case.path), _chance.random()
    key = _KEYS.get(str(needed), _KEYS["admin"])
    if drawn > 0.8:
        key = ""
    if drawn > 0.9:
        key = _chance.choice(list(_KEYS.values()))
    if drawn > 0.998:
        key = _WRONG
    case.headers = {**(case.headers or {}), **({"Authorization": f"Bearer {key}"} if key else {})}


@schemathesis.hook
def after_call(_context: Any, case: Any, response: Any) -> None:
    """Count it."""
    _answers[f"{case.method.upper()} {case.path} {response.status_code}"] += 1


@atexit.register
def _write() -> None:
    Path(os.environ["ATTACK_COUNTS"]).write_text(json.dumps({"asked": _asked, "answers": _answers}))
