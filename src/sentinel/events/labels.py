"""Labels: the words for fraud and for legitimate, in whatever a history has them."""

import re
from collections.abc import Mapping

from sentinel.errors import DataProblem, InvalidDefinition
from sentinel.events.card_numbers import quoted

FRAUD = frozenset({"1", "true", "t", "yes", "y", "fraud", "fraudulent"})
LEGITIMATE = frozenset({"0", "false", "f", "no", "n", "legit", "legitimate", "genuine", "non-fraud", "not fraud"})
UNLABELLED = frozenset({"", "n/a", "na", "nan", "none", "null", "<na>"})

_SAYS_FRAUD = re.compile(r"fraud|charge.?back|declin|stolen|scam|disput|malicious|suspic|betrug|fraude")
_SAYS_NONE = re.compile(r"^(?:ok|okay|good|clean|safe|approved?|accepted?|settled|paid|valid|legit.*|genuine|normal)$")
_DENIES = re.compile(r"\b(?:no|non|not|un|without|cleared|refuted|won)\b|^(?:no|non|not)[_-]")
_RARER = 3  # times: of two words the one that so many more rows have is not fraud

_WHOLE = re.compile(r"([+-]?)0*([0-9]+)(?:\.0*)?")
_SHOWN = 12
_LONGEST_EXAMPLE = 300


def word_of(text: str) -> str:
    """A label as it is looked up: trimmed, in small letters, a whole number without decimals.

    >>> word_of(" Fraud "), word_of("1.0"), word_of("-01")
    ('fraud', '1', '-1')
    """
    word = text.strip().lower()
    number = _WHOLE.fullmatch(word)
    return (("-" if number[1] == "-" and number[2] != "0" else "") + number[2]) if number else word


def meanings(words: Mapping[str, int], column: str, given: Mapping[str, int]) -> dict[str, int | None]:
    """What each of these words (see `word_of`) means: 1 fraud, 0 legitimate, None unlabelled.

    `words` has the rows of each, and `given` says it for words of your own. A column of 1 and -1 has -1 for legitimate.
    Raises DataProblem that names the words that could mean either.
    """
    found = sorted(set(words))
    known = dict.fromkeys(FRAUD, 1) | dict.fromkeys(LEGITIMATE, 0) | dict.fromkeys(UNLABELLED)
    known |= {word_of(word): meaning for word, meaning in given.items()}
    if set(found) - UNLABELLED <= {"1", "-1"}:
        known = {"-1": 0} | known
    if any(word not in known for word in found):
        labels = [word for word in found if word not in UNLABELLED]
        shown = ", ".join(map(quoted, labels[:_SHOWN])) + (", ..." if len(labels) > _SHOWN else "")
        example = _example({word: words[word] for word in labels}, known)
        raise DataProblem(
            f"{column} has {shown}, and what all of that means is not known; say which are fraud (1) and which are not "
            f"(0): --labels {quoted(example, _LONGEST_EXAMPLE)}, or labels={{...}} of the Schema"
        )
    return {word: known[word] for word in found}


def _example(words: Mapping[str, int], known: Mapping[str, int | None]) -> str:
    """What may be given for these words; what nobody can tell is `?`, which is refused as it stands."""
    guessed = {word: _guess(word, known) for word in words}
    if len(words) == 2:
        guessed = _told_apart(words, guessed)
    shown = [f"{word}={'?' if guessed[word] is None else guessed[word]}" for word in list(words)[:_SHOWN]]
    return ",".join(shown) + (",..." if len(words) > _SHOWN else "")


def _guess(word: str, known: Mapping[str, int | None]) -> int | None:
    """By what it says; a number beside words that are not known says nothing."""
    if _WHOLE.fullmatch(word):
        return None
    if word in known:
        return known[word]
    if _SAYS_FRAUD.search(word):
        return None if _DENIES.search(word) else 1
    return 0 if _SAYS_NONE.search(word) else None


def _told_apart(words: Mapping[str, int], guessed: dict[str, int | None]) -> dict[str, int | None]:
    """Of two words one is fraud and the other is not: by what one says, else by which is far rarer."""
    rare, usual = sorted(words, key=lambda word: words[word])
    if guessed[rare] is None and guessed[usual] is None:
        return {rare: 1, usual: 0} if _RARER * words[rare] <= words[usual] else guessed
    if guessed[rare] is None:
        return guessed | {rare: 1 - (guessed[usual] or 0)}
    return guessed | {usual: 1 - (guessed[rare] or 0)} if guessed[usual] is None else guessed


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
