"""What keeps a follower from its work is told where it can be, and never ends anything itself."""

import subprocess
import sys

from sentinel.record.problem import problem_of, tell_problem


def test_a_problem_is_there_until_it_is_over(tmp_path):
    assert problem_of(tmp_path, "projector") is None
    tell_problem(tmp_path, "projector", "the disk is full")
    assert problem_of(tmp_path, "projector") == "the disk is full"
    tell_problem(tmp_path, "projector", None)
    assert problem_of(tmp_path, "projector") is None


WITHOUT_DESCRIPTORS = """
import os, resource, sys
from pathlib import Path
from sentinel.record.problem import problem_of
resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(0), 64))
print(problem_of(Path(sys.argv[1]), "projector"))
"""


def test_without_a_descriptor_it_is_not_known(tmp_path):
    tell_problem(tmp_path, "projector", "the disk is full")
    command = [sys.executable, "-c", WITHOUT_DESCRIPTORS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


def test_a_folder_that_cannot_be_written_to_ends_no_one(tmp_path):
    (tmp_path / "projector.problem").mkdir()  # as a disk that refuses: neither written nor removed
    tell_problem(tmp_path, "projector", "it cannot be written")
    tell_problem(tmp_path, "projector", None)
    assert problem_of(tmp_path, "projector") is None
