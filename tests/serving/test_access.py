"""Keys, addresses and certificates."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")

from lfm_policy.errors import InputError
from lfm_policy.serving import ServerOptions
from lfm_policy.serving.access import (
    ApiKeys,
    check_bind,
    is_loopback,
    read_api_keys,
    tls_context,
    warning_of_secret,
)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.5", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    try:
        assert is_loopback(host) == expected
    except InputError:
        assert ":" in host  # a computer without IPv6


def test_others_may_connect_only_with_a_key_or_on_purpose() -> None:
    with pytest.raises(InputError, match="--api-key-file"):
        check_bind("0.0.0.0", keys=ApiKeys(), insist=False)
    check_bind("127.0.0.1", keys=ApiKeys(), insist=False)
    check_bind("0.0.0.0", keys=ApiKeys(["key"]), insist=False)
    check_bind("0.0.0.0", keys=ApiKeys(), insist=True)
    with pytest.raises(InputError, match="no such address"):
        check_bind("no such host", keys=ApiKeys(), insist=False)


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# of the lab\n\n  first \nsecond\n")
    keys = read_api_keys(path)
    assert keys and not ApiKeys()
    assert keys.accepts("Api-Key first") and keys.accepts("api-key second")
    for header in (
        None,
        "",
        "Api-Key",
        "Api-Key ",
        "Api-Key # of the lab",
        "first",
        "Api-Keyfirst",
    ):
        assert not keys.accepts(header)
    assert ApiKeys().accepts(None)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "holds no key"),
        (b"# nothing\n", "holds no key"),
        (b"two words\n", "key 1 has a space"),
        ("schl\u00fcssel".encode(), "key 1"),
        (b"\xff\xfe", "cannot be read"),
        (b"k\n" * 2000, "at most 1000"),
    ],
)
def test_bad_key_files(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(InputError, match=what) as caught:
        read_api_keys(path)
    assert "two words" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_api_keys(tmp_path / "absent")


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such modes")
@pytest.mark.parametrize(
    ("mode", "private"),
    [
        *((0o600, True), (0o400, True), (0o700, True), (0o711, True)),
        *((0o640, False), (0o604, False), (0o644, False), (0o620, False), (0o602, False)),
    ],
)
def test_a_secret_that_others_can_read_is_named_with_the_cure(
    tmp_path: Path, mode: int, private: bool
) -> None:
    path = tmp_path / "keys"
    path.write_text("key\n")
    path.chmod(mode)
    warning = warning_of_secret(path)
    if private:
        assert warning is None
    else:
        assert warning is not None
        assert warning.startswith(f"{path}: ") and f"(mode {mode:o})" in warning
        assert warning.endswith(f": chmod 600 {path}")
        path.chmod(0o600)
        assert warning_of_secret(path) is None


def test_bad_certificates(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.write_text("no certificate")
    assert tls_context(None, None) is None
    with pytest.raises(InputError, match="together"):
        tls_context(file, None)
    with pytest.raises(InputError, match="expected a PEM file"):
        tls_context(file, tmp_path / "absent")
    with pytest.raises(InputError, match="not a PEM certificate"):
        tls_context(file, file)


@pytest.mark.parametrize(
    "options",
    [
        {"port": 70_000},
        {"max_connections": 0},
        {"max_message_bytes": 0},
        {"max_batch": 0},
        {"idle_timeout": 0.0},
        {"grace": float("nan")},
        {"send_timeout": float("inf")},
        {"seed": -1},
    ],
)
def test_bad_options(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(InputError, match=name):
        ServerOptions(**options)
