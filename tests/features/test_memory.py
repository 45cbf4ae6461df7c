"""How much memory there is: what the machine has, or what a container or another group leaves of it."""

import os

import pytest

from sentinel.features.memory import memory_bytes

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, MACHINE),
        ({"memory.max": "max\n", "memory.high": "max\n"}, MACHINE),
        ({"memory.max": "1048576\n", "memory.high": "max\n"}, 1 << 20),
        ({"memory.max": "1048576\n", "memory.high": "524288\n"}, 1 << 19),
        ({"a.slice/b.service/memory.max": "4096\n", "a.slice/memory.max": "8192\n"}, 4096),
        ({"a.slice/b.service/memory.max": "max\n", "a.slice/memory.high": "8192\n"}, 8192),
        ({"memory.max": f"{1 << 62}\n"}, MACHINE),
        ({"memory.max": "nonsense"}, MACHINE),
    ],
)
def test_the_least_limit_counts(tmp_path, limits, expected):
    own, groups = tmp_path / "own", tmp_path / "groups"
    own.write_text("1:name=x:/other\n0::/a.slice/b.service\n")
    for name, text in limits.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    assert memory_bytes(own, groups) == expected


def test_without_groups_it_is_the_machine_s(tmp_path):
    assert memory_bytes(tmp_path / "own", tmp_path / "groups") == MACHINE
    assert 0 < memory_bytes() <= MACHINE
