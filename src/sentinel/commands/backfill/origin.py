"""What a build is made of, in short: a build that was stopped goes on only with the same."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
from xxhash import xxh3_64_hexdigest

from sentinel import __version__
from sentinel.detector import Detector
from sentinel.errors import DataProblem
from sentinel.events.reading import Reading
from sentinel.events.secrets import Secrets
from sentinel.features import layout

_FOOTER = 1 << 16


def origin_of(detector: Detector, reading: Reading, secrets: Secrets, files: Sequence[Path]) -> dict[str, str]:
    """By names that can be told: the input, the detector, how it is read, and the program.

    Of a file its name, size, time and last 64 kB are looked at: a Parquet file's footer is there. Raises DataProblem.
    """
    plan = (detector.plan({}), detector.training.rare_below)
    return {
        "the input": _short([_of_file(one) for one in files]),
        "the detector": _short(plan),
        "how the input is read": _short(
            [msgspec.to_builtins(reading, enc_hook=str), secrets.key_id, secrets.card_numbers]
        ),
        "the program": f"{__version__}, kernel {layout.KERNEL_VERSION}, polars {version('polars')}",
    }


def _of_file(path: Path) -> list[object]:
    try:
        known = path.stat()
        with path.open("rb") as file:
            file.seek(max(known.st_size - _FOOTER, 0))
            return [str(path.absolute()), known.st_size, known.st_mtime_ns, xxh3_64_hexdigest(file.read())]
    except OSError as error:
        raise DataProblem(f"{path} cannot be read: {error.strerror}") from error


def _short(what: object) -> str:
    return xxh3_64_hexdigest(msgspec.json.encode(what))
