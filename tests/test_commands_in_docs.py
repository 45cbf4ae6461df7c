"""Every command that a page has is one that there is: `sentinel` with its options, and what `make` can be told.

They are parsed by the command line itself, not run: `make walk` and `make gate` run those of a newcomer from the first to the last.
"""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from sentinel.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TARGETS = set(re.findall(r"(?m)^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text()))
COMMANDS = get_command(app)
_END = set("();<>|&")


def blocks_of(text):
    """The blocks of a page that are meant for a shell: those that say so, and those that do not say what they are."""
    for kind, block in re.findall(r"(?ms)^```(\w*)\n(.*?)^```", text):
        if kind in ("", "sh", "bash", "shell", "console"):
            yield re.sub(r"\\\n\s*", " ", block)


def words_of(line):
    """The words of one command up to where another begins or a comment does; None where it goes on below."""
    parts = shlex.shlex(re.sub(r"\s+#.*", "", line), posix=True, punctuation_chars=True)
    parts.whitespace_split, parts.commenters = True, ""
    try:
        words = list(parts)
    except ValueError:
        return None
    return words[: next((n for n, word in enumerate(words) if set(word) <= _END), len(words))]


def commands_in(text, program):
    """The commands of a page that call a program, without it and what stands before."""
    for block in blocks_of(text):
        for line in block.splitlines():
            words = words_of(line.removeprefix("$ ")) or []
            for n, word in enumerate(words):
                is_setting = re.fullmatch(r"[A-Z_]+=.*", word)
                if Path(word).name == program:
                    yield words[n + 1 :]
                if not is_setting:
                    break


def fault_of(words):
    """What is wrong with the words after `sentinel`, or None: a command or an option that is not there."""
    command = COMMANDS
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    known = {name: one for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help": None}
    for word in words:
        name = word.split("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", name) and name not in known:
            return f"{command.name} has no option {name}"
    return None


def test_a_command_that_is_not_there_is_found():
    text = "```\nSENTINEL_HOME=x .venv/bin/sentinel train --datum a.csv  # fit\nsentinel modls list | cat\n```\n"
    assert list(commands_in(text, "sentinel")) == [["train", "--datum", "a.csv"], ["modls", "list"]]
    assert [fault_of(words) for words in commands_in(text, "sentinel")] == [
        "train has no option --datum",
        "there is no command 'modls'",
    ]
    assert fault_of(["models", "list", "--json"]) is None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_are_there(page):
    faults = [(shlex.join(words), fault_of(words)) for words in commands_in(page.read_text(), "sentinel")]
    assert [one for one in faults if one[1]] == []
    called = {words[0] for words in commands_in(page.read_text(), "make") if words and words[0].isalpha()}
    assert called <= TARGETS


def test_there_are_commands_to_look_at():
    found = [words for page in PAGES for words in commands_in(page.read_text(), "sentinel")]
    assert len(found) > 50
