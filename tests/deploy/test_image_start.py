"""How a container starts: which kernels fit the processor, and where they are put."""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "deploy" / "image"
SPEC = importlib.util.spec_from_file_location("image_start", FOLDER / "start.py")
start = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(start)

V3 = " ".join(start.LEVELS["x86-64-v3"])


@pytest.fixture
def kernels(tmp_path):
    folder = tmp_path / "image" / "x86-64-v3"
    (folder / "features_0a").mkdir(parents=True)
    (folder / "features_0a" / "kernel.advance.nbi").write_bytes(b"index")
    (folder / "BUILD").write_text("0123456789abcdef\n")
    return folder.parent


@pytest.mark.parametrize("lacking", start.LEVELS["x86-64-v3"])
def test_a_processor_has_a_level_only_with_all_of_it(lacking):
    flags = set(V3.split()) - {lacking}
    assert start.level_of(f"processor\t: 0\nflags\t\t: fpu {V3} sse\n") == "x86-64-v3"
    assert start.level_of(f"processor\t: 0\nflags\t\t: fpu {' '.join(flags)} sse\n") is None


@pytest.mark.parametrize("cpuinfo", ["", "processor\t: 0\nFeatures\t: fp asimd\n"])
def test_of_another_processor_nothing_is_assumed(cpuinfo):
    assert start.level_of(cpuinfo) is None


def test_kernels_that_fit_are_put_where_numba_may_write_and_it_is_told_their_level(kernels, tmp_path):
    told = start.environment_of("x86-64-v3", kernels, [tmp_path])
    folder = Path(told.pop("NUMBA_CACHE_DIR"))
    assert told == {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": ""}
    assert (folder / "features_0a" / "kernel.advance.nbi").read_bytes() == b"index"
    assert folder.stat().st_mode & 0o077 == 0
    (folder / "features_0a" / "more.nbi").write_bytes(b"")


def test_without_the_level_it_compiles_for_itself_into_an_empty_folder(kernels, tmp_path):
    told = start.environment_of(None, kernels, [tmp_path])
    assert list(told) == ["NUMBA_CACHE_DIR"]
    assert list(Path(told["NUMBA_CACHE_DIR"]).iterdir()) == []


def test_the_first_place_that_can_be_written_is_taken(kernels, tmp_path):
    file = tmp_path / "file"
    file.write_text("no folder")
    assert start.put(kernels / "x86-64-v3", [tmp_path / "absent", file, tmp_path]).parent == tmp_path
    with pytest.raises(start.NoRoom, match="NUMBA_CACHE_DIR"):
        start.put(kernels / "x86-64-v3", [tmp_path / "absent", file])


def test_many_at_once_end_with_one_folder(kernels, tmp_path):
    place = tmp_path / "shm"
    place.mkdir()
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: start.put(kernels / "x86-64-v3", [place]), range(40)))
    assert found == set(place.iterdir())
    assert len(found) == 1


def test_the_kernels_of_another_image_are_not_taken(kernels, tmp_path):
    older = start.put(kernels / "x86-64-v3", [tmp_path])
    (kernels / "x86-64-v3" / "BUILD").write_text("fedcba9876543210\n")
    assert start.put(kernels / "x86-64-v3", [tmp_path]) != older


def test_what_another_user_could_have_put_there_is_not_run(kernels, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    name = start.put(kernels / "x86-64-v3", [second]).name
    open_to_all = first / name
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    (open_to_all / "planted.nbc").write_bytes(b"")
    assert start.put(kernels / "x86-64-v3", [first, second]).parent == second
    open_to_all.chmod(0o700)
    (first / name / "planted.nbc").unlink()
    open_to_all.rmdir()
    open_to_all.symlink_to(second / name)
    assert start.put(kernels / "x86-64-v3", [first, second]).parent == second


def test_numba_is_imported_only_once_it_has_been_told():
    code = "import sys, sentinel.cli, sentinel.telemetry.logs; print('numba' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, env=environment)
    assert done.stdout.strip() == "False", done.stderr


def test_what_is_said_of_the_processor_is_heard_at_once():
    """Numba takes compiled code for the processor that it is told, without looking at the one it runs on."""
    code = "from numba.core.registry import cpu_target; print(cpu_target.target_context.codegen().magic_tuple()[1:])"
    environment = {**os.environ, **start.compiled_for("x86-64-v3")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, env=environment)
    assert done.stdout.strip() == "('x86-64-v3', '')", done.stderr
