"""The bundle: whatever is changed in it, whoever could have changed it, is seen before it decides."""

import hashlib
import io
import os
import shutil
import zipfile

import msgspec
import numpy as np
import pytest

from sentinel.errors import BundleProblem, InvalidDefinition
from sentinel.features.packed import pack, unpack
from sentinel.features.plan import FeaturePlan
from sentinel.model.bundle import (
    MANIFEST_FILE,
    MODEL_FILE,
    REFERENCE_FILE,
    STATE_FILE,
    accept_bundle,
    load_bundle,
    load_warm,
    plan_sha256,
    read_manifest,
    sign_bundle,
)
from sentinel.model.registry import Registry
from sentinel.model.registry_record import RECORD_FILE
from sentinel.model.signing import SIGNATURE_FILE, make_key_pair, read_trusted_keys, signer


@pytest.fixture
def registry(shop_home, tmp_path):
    shutil.copytree(shop_home / "models", tmp_path / "models")
    return Registry(tmp_path / "models")


@pytest.fixture
def folder(registry):
    return registry.path("v1")


@pytest.fixture
def keys(tmp_path):
    """What signs, and what trusts it."""
    public, _ = make_key_pair(tmp_path / "team.key")
    return signer(tmp_path / "team.key"), read_trusted_keys(public)


def rewrite(folder, data=None, record=False, **changes):
    """Change files or fields of a bundle, with every hash in the manifest made anew."""
    manifest = msgspec.json.decode((folder / MANIFEST_FILE).read_bytes())
    for name, content in (data or {}).items():
        (folder / name).write_bytes(content)
        manifest["files"][name] = hashlib.sha256(content).hexdigest()
    manifest |= changes
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))
    if record:
        Registry(folder.parent).record(folder.name, (folder / MANIFEST_FILE).read_bytes(), "accepted")


# the record


@pytest.mark.parametrize("field", ["thresholds", "certificate", "fallback", "metrics", "history", "created_at"])
def test_what_only_the_manifest_says_is_covered(folder, field):
    said = msgspec.json.decode((folder / MANIFEST_FILE).read_bytes())[field]
    changed = said | {"review": 0.999999} if isinstance(said, dict) else f"{said} "
    rewrite(folder, **{field: changed})
    for read in (load_bundle, read_manifest):
        with pytest.raises(BundleProblem, match="manifest of v1 was altered after it was trained"):
            read(folder)


def test_a_file_with_its_hash_made_anew_is_refused(folder):
    rewrite(folder, {MODEL_FILE: (folder / MODEL_FILE).read_bytes() + b"\0"})
    with pytest.raises(BundleProblem, match="altered after it was trained"):
        load_bundle(folder)


def test_a_bundle_that_was_copied_here_is_refused_until_it_is_accepted(registry, folder, shop_home, tmp_path):
    elsewhere = Registry(tmp_path / "elsewhere")
    shutil.copytree(folder, elsewhere.folder / "v1")
    with pytest.raises(BundleProblem, match="`sentinel models accept v1` takes it in"):
        load_warm(elsewhere, "v1")
    assert accept_bundle(elsewhere, "v1") == hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()
    assert load_warm(elsewhere, "v1").manifest == read_manifest(folder)


def test_a_bundle_that_could_not_be_loaded_is_not_accepted(registry, folder):
    rewrite(folder, {MODEL_FILE: b"nothing"})
    with pytest.raises(BundleProblem, match="not accepted"):
        accept_bundle(registry, "v1")
    with pytest.raises(BundleProblem, match="altered after it was trained"):
        load_bundle(folder)


def test_a_version_under_the_name_of_another_is_refused(registry, folder):
    shutil.copytree(folder, folder.with_name("v2"))
    with pytest.raises(BundleProblem, match="manifest of v1; a version keeps its name"):
        accept_bundle(registry, "v2")


def test_a_version_that_was_deleted_is_not_given_to_another_model(registry, folder):
    shutil.rmtree(folder)
    assert registry.next_version() == "v2"


@pytest.mark.parametrize("torn", [b'{"version":"v2","mani', b"\xff\xfe\n", b"\n\n", b"[]\n", b'{"version":1}\n'])
def test_a_line_that_cannot_be_read_vouches_for_nothing_and_spoils_no_other(registry, folder, torn):
    with (registry.folder / RECORD_FILE).open("ab") as file:
        file.write(torn)
    assert load_bundle(folder).manifest.version == "v1"
    registry.record("v7", b"manifest", "trained")
    registry.check_recorded("v7", b"manifest")
    load_bundle(folder)


def test_without_its_record_a_registry_has_no_models(registry, folder):
    (registry.folder / RECORD_FILE).unlink()
    with pytest.raises(BundleProblem, match=RECORD_FILE):
        load_bundle(folder)


BROKEN = {
    "thresholds": {"review": "much"},
    "fallback": {"rules": [{"when": [{"feature": "nobody", "op": ">", "value": 1}], "add": 0.5, "reason": "none"}]},
    "on_fault": {"no_time": "aprove"},
    "plan": {"schema": {"keys": ["amount"]}},
}


@pytest.mark.parametrize("field", [*BROKEN])
def test_what_could_not_decide_is_not_accepted_and_not_loaded(registry, folder, field):
    said = msgspec.json.decode((folder / MANIFEST_FILE).read_bytes())[field]
    rewrite(folder, **{field: said | BROKEN[field]})
    with pytest.raises(BundleProblem, match=r"cannot decide|cannot be read"):
        accept_bundle(registry, "v1")
    registry.record("v1", (folder / MANIFEST_FILE).read_bytes(), "accepted")
    with pytest.raises(BundleProblem, match=r"cannot decide|cannot be read"):
        load_warm(registry, "v1")


def test_a_plan_that_cannot_be_computed_is_refused_though_all_hashes_are_right(folder):
    said = msgspec.json.decode((folder / MANIFEST_FILE).read_bytes())["plan"]
    (ratio,) = [one for one in said["features"] if one["kind"] == "ratio"][:1]
    ratio["parts"] = []
    plan = msgspec.convert(said, FeaturePlan)
    rewrite(folder, record=True, plan=said, plan_sha256=plan_sha256(plan))
    with pytest.raises(BundleProblem, match="a ratio is of 2 features"):
        load_bundle(folder)


# signatures


def test_with_trusted_keys_only_what_they_signed_is_loaded(registry, folder, keys, tmp_path):
    sign, trusted = keys
    assert load_bundle(folder).manifest.version == "v1"
    with pytest.raises(BundleProblem, match="not signed"):
        load_bundle(folder, trusted)
    sign_bundle(registry, "v1", sign)
    assert load_warm(Registry(registry.folder, trusted), "v1").manifest.version == "v1"
    others, _ = make_key_pair(tmp_path / "others.key")
    with pytest.raises(BundleProblem, match="not among the trusted keys"):
        load_bundle(folder, read_trusted_keys(others))


def test_a_signature_is_of_one_manifest_whatever_the_record_says(registry, folder, keys):
    """Who can write to the registry can write its record too, but has no key."""
    sign, trusted = keys
    sign_bundle(registry, "v1", sign)
    rewrite(folder, record=True, thresholds={"review": 0.999, "block": None})
    assert load_bundle(folder).manifest.thresholds["review"] == 0.999
    with pytest.raises(BundleProblem, match="is not of this manifest"):
        load_bundle(folder, trusted)
    with pytest.raises(BundleProblem, match="is not of this manifest"):
        accept_bundle(Registry(registry.folder, trusted), "v1")


def test_a_signature_for_another_purpose_does_not_fit(folder, keys, tmp_path):
    _, trusted = keys
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key((tmp_path / "team.key").read_bytes(), None)
    bare = key.sign((folder / MANIFEST_FILE).read_bytes()).hex()
    (folder / SIGNATURE_FILE).write_bytes(
        msgspec.json.encode({"public_key": next(iter(trusted)).hex(), "signature": bare})
    )
    with pytest.raises(BundleProblem, match="is not of this manifest"):
        load_bundle(folder, trusted)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"x" * 5000,
        b'{"public_key":"zz","signature":""}',
        b'{"public_key":"","signature":"","x":1}',
        b"\xff",
    ],
)
def test_what_is_no_signature_is_refused(folder, keys, content):
    (folder / SIGNATURE_FILE).write_bytes(content)
    with pytest.raises(BundleProblem, match=r"signature|not among"):
        load_bundle(folder, keys[1])


def test_what_was_altered_is_not_signed(registry, folder, keys):
    rewrite(folder, thresholds={"review": 0.5, "block": None})
    with pytest.raises(BundleProblem, match="altered"):
        sign_bundle(registry, "v1", keys[0])
    assert not (folder / SIGNATURE_FILE).exists()


def test_keys_are_for_their_owner_and_are_never_replaced(tmp_path):
    public, line = make_key_pair(tmp_path / "a.key")
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    assert public.read_text() == f"{line}\n"
    before = (tmp_path / "a.key").read_bytes()
    with pytest.raises(InvalidDefinition, match="no key is replaced"):
        make_key_pair(tmp_path / "a.key")
    assert (tmp_path / "a.key").read_bytes() == before
    (tmp_path / "a.key").unlink()
    with pytest.raises(InvalidDefinition, match=r"a\.key\.pub cannot be written.*no key is replaced"):
        make_key_pair(tmp_path / "a.key")
    assert [path.name for path in tmp_path.iterdir()] == ["a.key.pub"]


def test_a_private_key_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "a.key").touch()
    with pytest.raises(InvalidDefinition, match=r"a\.key cannot be written.*no key is replaced"):
        make_key_pair(tmp_path / "a.key")
    assert [path.name for path in tmp_path.iterdir()] == ["a.key"]
    with pytest.raises(InvalidDefinition, match="cannot be written"):
        make_key_pair(tmp_path / "nowhere" / "a.key")


@pytest.mark.parametrize(
    "text", ["", "# none\n", "ed25519\n", "ed25519 zz\n", f"rsa {'0' * 64}\n", f"ed25519 {'0' * 62}\n"]
)
def test_a_file_without_a_key_trusts_no_one_and_is_refused(tmp_path, text):
    """It must not mean that nothing is asked for."""
    (tmp_path / "keys").write_text(text)
    with pytest.raises(InvalidDefinition, match="trusted_keys_file"):
        read_trusted_keys(tmp_path / "keys")


def test_several_keys_may_be_trusted_while_they_change(tmp_path):
    lines = [make_key_pair(tmp_path / name)[1] for name in ("old", "new")]
    (tmp_path / "keys").write_text("# of the team\n\n" + "\n".join(lines))
    assert len(read_trusted_keys(tmp_path / "keys")) == 2
    assert read_trusted_keys(None) == frozenset()


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nzz\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_private_key_is_refused(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InvalidDefinition, match="signing_key_file"):
        signer(tmp_path / "key")
    with pytest.raises(InvalidDefinition, match="signing_key_file"):
        signer(tmp_path / "absent")


# files


@pytest.mark.parametrize("name", [MANIFEST_FILE, MODEL_FILE, REFERENCE_FILE, STATE_FILE])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_regular_files_are_read(folder, tmp_path, name, kind):
    (folder / name).rename(tmp_path / name)
    if kind == "link":
        (folder / name).symlink_to(tmp_path / name)
    elif kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).mkdir()
    with pytest.raises(BundleProblem, match=r"symbolic link|no regular file"):
        load_bundle(folder)


def test_a_folder_that_is_a_link_is_refused(registry, folder, tmp_path):
    folder.rename(tmp_path / "v1")
    folder.symlink_to(tmp_path / "v1")
    with pytest.raises(BundleProblem, match="symbolic link"):
        load_bundle(folder)


@pytest.mark.parametrize("names", [{"../v1/model.onnx"}, {"/etc/hostname"}, {"more.bin"}, set()])
def test_a_manifest_names_its_three_files_and_no_other(folder, names):
    said = msgspec.json.decode((folder / MANIFEST_FILE).read_bytes())["files"]
    said = said | dict.fromkeys(names, "0" * 64) if names else {MODEL_FILE: said[MODEL_FILE]}
    rewrite(folder, record=True, files=said)
    with pytest.raises(BundleProblem, match="nothing else"):
        load_bundle(folder)


def compressed(state):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **state)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "remake",
    [
        lambda state: pack({**state, "received": np.zeros(0, np.int64)}),
        lambda state: pack({**state, "0.profiles": state["0.profiles"].astype(np.int64)}),
        lambda state: pack({name: one for name, one in state.items() if name != "0.profiles"}),
        lambda state: pack({**state, "0.profiles": state["0.profiles"][:-3]}),
        compressed,
        lambda _: b"",
        lambda _: b"PK\x05\x06" + bytes(18),
    ],
    ids=["no time", "another type", "a part missing", "cut off", "compressed", "empty", "no parts"],
)
def test_a_state_that_is_none_is_refused_though_all_hashes_are_right(folder, remake):
    rewrite(folder, {STATE_FILE: remake(unpack((folder / STATE_FILE).read_bytes()))}, record=True)
    with pytest.raises(BundleProblem, match=STATE_FILE):
        load_bundle(folder)


def test_a_zip_of_another_kind_has_no_members_that_are_written_anywhere(folder, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../written.npy", b"x")
    rewrite(folder, {STATE_FILE: buffer.getvalue()}, record=True)
    with pytest.raises(BundleProblem, match=STATE_FILE):
        load_bundle(folder)
    assert not list(tmp_path.rglob("written*"))


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format": 2}'], ids=lambda one: repr(one[:9])
)
def test_a_manifest_that_is_none_is_refused(registry, folder, text):
    (folder / MANIFEST_FILE).write_bytes(text)
    registry.record("v1", text, "accepted")
    with pytest.raises(BundleProblem, match=r"format None|cannot be read"):
        load_bundle(folder)
