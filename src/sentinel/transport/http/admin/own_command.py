"""A command of ours in a process of its own: what reads much of the log must not hold up a decision."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sentinel.errors import InvalidInput, NotReady
from sentinel.events.card_numbers import masked_ends

_LONGEST_S = 120.0


async def told_by(home: Path, command: Sequence[str]) -> bytes:
    """The JSON of `sentinel COMMAND --home HOME --json`, at the lowest priority.

    Raises InvalidInput with what the command says where it refuses, NotReady where it takes more than two minutes.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sentinel", *command, "--home", str(home), "--json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.setpriority(os.PRIO_PROCESS, process.pid, 19)
        told, said = await asyncio.wait_for(process.communicate(), _LONGEST_S)
    except TimeoutError:
        raise NotReady(f"It took more than {_LONGEST_S:.0f} s; choose a shorter period") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        why = " ".join(said.decode(errors="replace").split()).rpartition("error: ")[2]
        raise InvalidInput(masked_ends(why, 1_000), "$.from")
    return told
