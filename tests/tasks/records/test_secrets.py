"""Secrets are told from parameters, refused without being repeated, and cleared out of texts."""

from __future__ import annotations

import string

import numpy as np
import pytest

from flows.recipe import read_recipe
from tasks.records.secrets import SecretError, find_secrets, redacted, refuse_secrets
from tasks.records.session import StageParams
from tasks.stores.storage.location import Location

KEY_ID = "AKIA" + "IOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"

HOLDERS = [
    {"password": "hunter22"},
    {"store": {"aws_secret_access_key": "x"}},
    {"files": ["movie.tiff", KEY_ID]},
    {"gain": SECRET},
    {"gain": "https://reader:hunter22@data.org/gain.mrc"},
    {"pattern": "https://b.s3.amazonaws.com/m.tiff?X-Amz-Signature=0123456789abcdef"},
    {"note": "-----BEGIN RSA PRIVATE KEY-----"},
    {"api_token": "abc"},
]
INNOCENT = [
    {"gain": "/data/Session42/Grid1/Square12/Movies/gain.mrc", "box_size_px": 256, "seed": 0},
    {"session": "s3://facility-sessions/mx4211/Krios1_2026-11-21@sharper.zarr"},
    {"folder": "/Data/Krios1/2026Nov21/Grid3Square17/Images/A"},
    {"hash": "da39a3ee5e6b4b0d3255bfef95601890afd80709", "id": "FoilHole_24015653_Data_24017330_12_20261121-4f1b2c3d"},
    {"pattern": "**/*_fractions.tiff", "symmetry": "O", "keep": [1, 2, 3], "dose": None, "is_secret": True},
    {"alarm_secret_block": "slack"},
]


class AnyParams(StageParams):
    gain: str | None = None
    password: str | None = None
    files: tuple[str, ...] = ()


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_looks_like_a_secret_is_refused_and_not_repeated(holder):
    with pytest.raises(SecretError, match=r"never from a recipe") as refused:
        refuse_secrets(holder, "recipe")
    for value in ("hunter22", KEY_ID, SECRET, "0123456789abcdef"):
        assert value not in str(refused.value)


@pytest.mark.parametrize("holder", INNOCENT)
def test_what_does_not_is_not(holder):
    refuse_secrets(holder, "recipe")


def test_the_value_of_a_secret_variable_is_known_wherever_it_stands(monkeypatch):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "operator:correct-horse")
    monkeypatch.setenv(
        "PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql+asyncpg://prefect:battery-staple@db/prefect"
    )
    for text in ("correct-horse", "operator:correct-horse", "battery-staple"):
        assert redacted(f"it said {text}!") == "it said ***!"
        with pytest.raises(SecretError):
            AnyParams(gain=f"/data/{text}/gain.mrc")


def test_parameters_of_any_stage_refuse_a_secret_and_do_not_show_it():
    for values in ({"gain": SECRET}, {"password": "hunter22"}, {"files": [KEY_ID]}):
        with pytest.raises(SecretError) as refused:
            AnyParams(**values)
        assert "parameters of Any" in str(refused.value)
        assert not {SECRET, "hunter22", KEY_ID} & set(str(refused.value).split())


def test_a_recipe_refuses_a_secret(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("import_session:\n  pixel_size_angstrom: 1.0\n  aws_secret_access_key: hunter22\n")
    with pytest.raises(SecretError, match=r"import_session.aws_secret_access_key") as refused:
        read_recipe(path)
    assert "hunter22" not in str(refused.value)
    with pytest.raises(SecretError):
        read_recipe("default", {"import_session.gain": f"https://me:{SECRET}@host/gain.mrc"})


@pytest.mark.parametrize(
    "address",
    [f"s3://{KEY_ID}:{SECRET}@bucket/session.zarr", "s3://user@bucket/session.zarr", f"s3://bucket/{KEY_ID}/s.zarr"],
)
def test_an_address_with_credentials_is_refused(address):
    with pytest.raises(SecretError, match="AWS_ACCESS_KEY_ID") as refused:
        Location.of(address)
    assert not any(part in str(refused.value) for part in (KEY_ID, SECRET, "user@"))


def test_a_version_of_a_session_on_s3_is_an_address_like_any_other():
    assert Location.of("s3://bucket/session@other.zarr").url == "s3://bucket/session@other.zarr"


def test_keys_drawn_at_random_are_told_from_digests_and_folders():
    random = np.random.default_rng(0)
    letters = np.array(list(string.ascii_letters + string.digits + "+/"))
    keys = ["".join(random.choice(letters, 40)) for _ in range(500)]
    assert sum(bool(list(find_secrets(key))) for key in keys) > 490
    digests = [random.bytes(20).hex() for _ in range(500)]
    assert not any(list(find_secrets(digest)) for digest in digests)


def test_texts_are_cleared_of_logins_keys_and_signatures():
    assert redacted(f"denied: {KEY_ID}") == "denied: ***"
    assert redacted("at https://me:pass@host/x?X-Amz-Signature=00ff") == "at https://***@host/x?X-Amz-Signature=***"
