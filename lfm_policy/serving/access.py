"""Who may connect: keys, addresses, TLS."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import socket
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path

from lfm_policy.errors import InputError
from lfm_runtime.wire.keys import keys_of

_SCHEME = "Api-Key "


class ApiKeys:
    """The keys that open a connection; none means that everybody may connect."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accepts(self, authorization: str | None) -> bool:
        """Whether an ``Authorization`` header holds one of the keys, as ``Api-Key <key>``.

        The time it takes depends neither on how much of a key is right nor on which key it is.
        """
        if not self._digests:
            return True
        header = authorization or ""
        scheme_fits = header[: len(_SCHEME)].lower() == _SCHEME.lower()
        given = header[len(_SCHEME) :].strip().encode("utf-8", "surrogateescape")
        # Digests, because comparing texts would tell how long the key is.
        digest = hashlib.sha256(given).digest()
        matches = [hmac.compare_digest(digest, key) for key in self._digests]
        return scheme_fits and any(matches)


def read_api_keys(path: Path) -> ApiKeys:
    """Read the file of keys that a server accepts; see `keys_of`."""
    return ApiKeys(keys_of(path))


def warning_of_secret(path: Path) -> str | None:
    """Return what to say of a file of keys that not only its owner can read or change, else None.

    Raises:
        InputError: there is no such file.
    """
    if os.name != "posix":
        return None
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if not mode & (stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH):
        return None
    return (
        f"{path}: other users of this machine have access to this file of keys (mode {mode:o}): "
        f"chmod 600 {path}"
    )


def check_bind(host: str, *, keys: ApiKeys, insist: bool) -> None:
    """Refuse to listen where others can connect, unless they need a key or somebody insists.

    Raises:
        InputError: no key, and the address is not the loopback; or there is no such address.
    """
    if keys or insist or is_loopback(host):
        return
    raise InputError(
        f"--host {host} lets other machines connect, and there is no key: give --api-key-file "
        "FILE, or --host 127.0.0.1, or insist with --allow-insecure-bind"
    )


def is_loopback(host: str) -> bool:
    """Whether every address of a host is this machine's own loopback.

    Raises:
        InputError: there is no such address.
    """
    if not host:
        return False  # all interfaces
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host {host[:100]}: no such address: {error}") from None
    addresses = [ipaddress.ip_address(str(entry[4][0]).split("%")[0]) for entry in found]
    return bool(addresses) and all(address.is_loopback for address in addresses)


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return what a server needs for TLS; None without a certificate.

    Raises:
        InputError: only one of the two files is given, or they are not a certificate and its key.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise InputError("--tls-cert and --tls-key are given together or not at all")
    for path in (certificate, key):
        if not path.is_file():
            raise InputError(f"{path}: expected a PEM file, found none")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # No password: asking for one would wait for a terminal that a service does not have.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise InputError(
            f"{certificate}, {key}: not a PEM certificate and its unencrypted key: {error}"
        ) from None
    return context
