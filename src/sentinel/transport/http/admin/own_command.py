"""A command of ours in a process of its own: what reads much of the log must not hold up a decision."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterable, Callable, Sequence
from pathlib import Path

from sentinel.errors import InvalidInput, NotReady
from sentinel.events.card_numbers import masked_ends

_LONGEST_S = 120.0
_LONGEST_LINE = 1 << 20


async def told_by(
    home: Path, command: Sequence[str], *, longest_s: float = _LONGEST_S,
    follow: Callable[[str], bool] = lambda _line: False,
    refused: Callable[[str], InvalidInput] = lambda why: InvalidInput(why, "$.from"),
) -> bytes:  # fmt: skip
    """The JSON of `sentinel COMMAND --home HOME --json`, at the lowest priority.

    `follow` is given each line that it says beside that, and returns whether the line was about how far it is. Raises
    InvalidInput, as `refused` makes it of what the command says, where that refuses; NotReady where it takes longer
    than `longest_s`.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sentinel", *command, "--home", str(home), "--json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=_LONGEST_LINE,
    )  # fmt: skip
    try:
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.setpriority(os.PRIO_PROCESS, process.pid, 19)
        assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 - both are pipes
        both = asyncio.gather(process.stdout.read(), _followed(process.stderr, follow))
        told, said = await asyncio.wait_for(both, longest_s)
        await process.wait()
    except TimeoutError:
        raise NotReady(f"It took more than {longest_s:.0f} s; choose a shorter period") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        why = " ".join(said.split()).rpartition("error: ")[2]
        raise refused(masked_ends(why, 1_000))
    return told


async def _followed(lines: AsyncIterable[bytes], follow: Callable[[str], bool]) -> str:
    """What is said to the end, but for the lines that were followed."""
    said = []
    async for raw in lines:
        line = raw.decode(errors="replace")
        if not follow(line):
            said.append(line)
    return "".join(said)
