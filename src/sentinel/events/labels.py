"""Labels: the words for fraud and for legitimate, in whatever a history has them."""

import re
from collections.abc import Iterable, Mapping

from sentinel.errors import DataProblem, InvalidDefinition
from sentinel.events.card_numbers import quoted

FRAUD = frozenset({"1", "true", "t", "yes", "y", "fraud", "fraudulent"})
LEGITIMATE = frozenset({"0", "false", "f", "no", "n", "legit", "legitimate", "genuine", "non-fraud", "not fraud"})
UNLABELLED = frozenset({"", "n/a", "na", "nan", "none", "null", "<na>"})

_WHOLE = re.compile(r"([+-]?)0*([0-9]+)(?:\.0*)?")
_SHOWN = 12


def word_of(text: str) -> str:
    """A label as it is looked up: trimmed, in small letters, a whole number without decimals.

    >>> word_of(" Fraud "), word_of("1.0"), word_of("-01")
    ('fraud', '1', '-1')
    """
    word = text.strip().lower()
    number = _WHOLE.fullmatch(word)
    return (("-" if number[1] == "-" and number[2] != "0" else "") + number[2]) if number else word


def meanings(words: Iterable[str], column: str, given: Mapping[str, int]) -> dict[str, int | None]:
    """What each of these words (see `word_of`) means: 1 fraud, 0 legitimate, None unlabelled.

    `given` says it for words of your own. A column of 1 and -1 has -1 for legitimate. Raises DataProblem that names the
    words that could mean either.
    """
    found = sorted(set(words))
    known = dict.fromkeys(FRAUD, 1) | dict.fromkeys(LEGITIMATE, 0) | dict.fromkeys(UNLABELLED)
    known |= {word_of(word): meaning for word, meaning in given.items()}
    if set(found) - UNLABELLED <= {"1", "-1"}:
        known = {"-1": 0} | known
    if any(word not in known for word in found):
        labels = [word for word in found if word not in UNLABELLED]
        shown = ", ".join(map(quoted, labels[:_SHOWN])) + (", ..." if len(labels) > _SHOWN else "")
        example = ",".join(f"{word}={n % 2}" for n, word in enumerate(labels[:3]))
        raise DataProblem(
            f"{column} has {shown}, and what all of that means is not known; say which are fraud (1) and which are not "
            f"(0): --labels {quoted(example)}, or labels={{...}} of the Schema"
        )
    return {word: known[word] for word in found}


def labels_of(text: str) -> dict[str, int]:
    """What `--labels` says: `chargeback=1,ok=0`. Raises InvalidDefinition.

    >>> labels_of("chargeback=1, ok=0")
    {'chargeback': 1, 'ok': 0}
    """
    found = {}
    for part in text.split(","):
        word, equals, meaning = part.rpartition("=")
        if not equals or meaning.strip() not in ("0", "1"):
            raise InvalidDefinition(f"--labels: {quoted(part.strip())} is no WORD=1 (fraud) or WORD=0 (legitimate)")
        found[word.strip()] = int(meaning)
    return found
