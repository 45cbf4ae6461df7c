"""The words of a condition, with their places."""

import re
from typing import NamedTuple, NoReturn

from sentinel.errors import InvalidDefinition

LONGEST = 10_000
"""Characters of a condition."""
_SHOWN = 60
_WORD = re.compile(
    r"""\s*(?:
    (?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![A-Za-z_\d.])
    |(?P<name>[^\W\d]\w*)
    |(?P<quoted>`[^`\s][^`]*`)
    |(?P<text>"(?:[^"\\]|\\["\\])*"|'(?:[^'\\]|\\['\\])*')
    |(?P<sign>==|!=|<=|>=|[<>+\-*/(),\[\]])
    )""",
    re.VERBOSE,
)
_INSTEAD = {
    "=": "==", "&": "and", "&&": "and", "|": "or", "||": "or", "!": "not", "<>": "!=", "=>": ">=", "=<": "<=",
    "\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'",
}  # fmt: skip


class RuleFault(InvalidDefinition):
    """A condition that cannot be read; `place` is the character where it goes wrong, counted from 0."""

    def __init__(self, why: str, text: str, place: int) -> None:
        begin = max(0, min(place - _SHOWN // 2, len(text) - _SHOWN))
        shown = "".join(one if one.isprintable() else " " for one in text[begin : begin + _SHOWN])
        super().__init__(f"{why} (character {place + 1})\n  {shown}\n  {' ' * (place - begin)}^")
        self.why = why
        self.place = place


class Word(NamedTuple):
    """A word: `kind` is `number`, `name`, `quoted` (a name in backquotes), `text`, `sign` or `end`."""

    kind: str
    text: str
    place: int


def words_of(text: str) -> list[Word]:
    """The words of a condition, the last one of the kind `end`. Raises RuleFault.

    >>> [word.text for word in words_of("amount>=500 and not (x in (1,2))")]
    ['amount', '>=', '500', 'and', 'not', '(', 'x', 'in', '(', '1', ',', '2', ')', ')', '']
    """
    if len(text) > LONGEST:
        raise RuleFault(f"a condition has at most {LONGEST:,} characters, and this one {len(text):,}", text, LONGEST)
    words, place, end = [], 0, len(text.rstrip())
    while place < end:
        found = _WORD.match(text, place)
        if found is None or found.lastgroup is None:
            _refuse(text, place + len(text[place:]) - len(text[place:].lstrip()))
        words.append(Word(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
        place = found.end()
    return [*words, Word("end", "", end)]


def _refuse(text: str, place: int) -> NoReturn:
    rest = text[place:]
    if rest[0] in "\"'":
        raise RuleFault("this text has no end; close it with the same quote", text, place)
    for one in (rest[:2], rest[0]):
        if _INSTEAD.get(one):
            raise RuleFault(f"write {_INSTEAD[one]} instead of {one}", text, place)
    if re.match(r"\.?\d", rest):
        raise RuleFault("this is no number; write it like 1500 or 0.25", text, place)
    raise RuleFault(f"{ascii(rest[0])[1:-1]} means nothing here", text, place)


def value_of(word: Word) -> str:
    r"""What a word of the kind `text` says.

    >>> value_of(Word("text", '"a \\"b\\""', 0))
    'a "b"'
    """
    return re.sub(r"\\(.)", r"\1", word.text[1:-1])
