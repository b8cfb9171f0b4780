"""Files of keys: those that a server accepts, and that a client shows."""

from __future__ import annotations

from pathlib import Path

from lfm_runtime.errors import InputError

MAXIMUM_KEY_FILE_BYTES = 100_000
MAXIMUM_KEYS = 1_000


def keys_of(path: Path) -> list[str]:
    """Read a file of keys, one per line; empty lines and lines that begin with # do not count.

    A client shows the first of them.

    Raises:
        InputError: the file cannot be read, holds no key, or a key that no header can carry.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAXIMUM_KEY_FILE_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the file of keys cannot be read: {error}") from None
    keys = [line.strip() for line in text.splitlines()]
    keys = [key for key in keys if key and not key.startswith("#")]
    if not keys:
        raise InputError(f"{path}: holds no key, expected one per line")
    if len(text) > MAXIMUM_KEY_FILE_BYTES or len(keys) > MAXIMUM_KEYS:
        raise InputError(f"{path}: is no file of keys: expected at most {MAXIMUM_KEYS} lines")
    for number, key in enumerate(keys, start=1):
        # The key itself is never shown.
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise InputError(
                f"{path}: key {number} has a space, an unprintable or a non-ASCII character"
            )
    return keys
