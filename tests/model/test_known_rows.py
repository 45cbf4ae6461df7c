"""Known rows: two transactions whose scores a bundle knows, wherever it is loaded."""

import hashlib
import shutil

import msgspec
import numpy as np
import pytest

from sentinel.commands.doctor import examine
from sentinel.config import Settings
from sentinel.errors import BundleProblem
from sentinel.model.bundle import MANIFEST_FILE, load_bundle, read_manifest
from sentinel.model.known_rows import KnownRow, check_known_rows, choose_known_rows
from sentinel.model.registry import Registry

NAN, INF = float("nan"), float("inf")


class Sum:
    """A scorer of two features."""

    n_features = 2

    def score(self, rows):
        return np.nansum(rows, axis=1)


def test_the_clearest_of_each_kind_are_chosen_the_first_of_equals():
    rows = np.array([[0.5, NAN], [0.7, 0.1], [0.8, 0.0], [0.0, 0.1], [0.1, 0.0], [0.2, NAN]], np.float32)
    labels = np.array([1, 1, 1, 0, 0, 0], np.int8)
    fraud, legitimate = choose_known_rows(rows, labels, Sum().score(rows))
    assert (fraud.was, fraud.features) == ("fraud", tuple(rows[1].tolist()))
    assert (legitimate.was, legitimate.features) == ("legitimate", tuple(rows[3].tolist()))


def test_a_missing_feature_is_null_and_an_infinite_one_is_not_written_down():
    rows = np.array([[INF, 1.0], [0.5, NAN], [INF, 0.0]], np.float32)
    found = choose_known_rows(rows, np.array([1, 1, 0], np.int8), np.array([0.9, 0.5, 0.1], np.float32))
    assert found == (KnownRow("fraud", (0.5, None), 0.5),)


def test_a_score_reads_back_from_the_manifest_to_the_last_bit():
    rows = np.array([[1 / 3, 0.1]], np.float32)
    known = choose_known_rows(rows, np.array([1], np.int8), Sum().score(rows))
    again = msgspec.json.decode(msgspec.json.encode(known), type=tuple[KnownRow, ...])
    assert np.array([again[0].features], np.float32).tobytes() == rows.tobytes()
    check_known_rows(Sum(), again)


@pytest.mark.parametrize(("off", "fits"), [(0.0, True), (9e-7, True), (2e-6, False), (-0.1, False), (NAN, False)])
def test_another_score_is_refused_from_a_millionth_on(off, fits):
    known = [KnownRow("fraud", (0.25, None), 0.25 + off)]
    if fits:
        check_known_rows(Sum(), known)
    else:
        with pytest.raises(BundleProblem, match="of the known fraud row, and said"):
            check_known_rows(Sum(), known)


def test_a_row_of_another_width_is_refused():
    with pytest.raises(BundleProblem, match="has 1 features, the model takes 2"):
        check_known_rows(Sum(), [KnownRow("legitimate", (0.5,), 0.5)])


def rewrite(folder, change):
    manifest = msgspec.json.decode((folder / MANIFEST_FILE).read_bytes())
    change(manifest)
    raw = msgspec.json.encode(manifest)
    (folder / MANIFEST_FILE).write_bytes(raw)
    Registry(folder.parent).record(folder.name, raw, "accepted")


def test_a_trained_bundle_knows_both_and_a_model_that_says_something_else_is_not_loaded(two_models_home, tmp_path):
    home = shutil.copytree(two_models_home, tmp_path / "home")
    one, other = home / "models" / "v1", home / "models" / "v2"
    fraud, legitimate = read_manifest(one).known_rows
    assert fraud.score > legitimate.score
    assert load_bundle(one).manifest.known_rows == (fraud, legitimate)
    (found,) = [finding for finding in examine(Settings(home=home)) if finding.what == "models"]
    assert f"{fraud.score:.4f} of its known fraud row" in found.found
    model = (other / "model.onnx").read_bytes()  # of the same features: all hashes fit, and it is another model
    (one / "model.onnx").write_bytes(model)
    rewrite(one, lambda manifest: manifest["files"].update({"model.onnx": hashlib.sha256(model).hexdigest()}))
    with pytest.raises(BundleProblem, match=r"said .* at training: it is another model"):
        load_bundle(one)
    (found,) = [finding for finding in examine(Settings(home=home)) if finding.what == "models"]
    assert not found.ok
    assert "of the known fraud row" in found.found


def test_a_bundle_from_before_is_loaded_as_ever(shop_home, tmp_path):
    home = shutil.copytree(shop_home, tmp_path / "home")
    folder = home / "models" / "v1"

    def as_before(manifest):
        del manifest["known_rows"], manifest["lineage"]

    rewrite(folder, as_before)
    assert load_bundle(folder).manifest.known_rows == ()
    (found,) = [finding for finding in examine(Settings(home=home)) if finding.what == "models"]
    assert found.ok
    assert "before models knew two rows" in found.found
