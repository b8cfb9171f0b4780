"""Ways to damage a checkpoint folder, by accident or on purpose.

Every mutation depends only on a random generator. ``rehash`` recomputes all checksums, as somebody
who wants the checkpoint to be accepted would.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lfm_policy.checkpoint_folders import CONFIG_FILE
from lfm_policy.policy.checkpoint import MODEL_FILE, NORMALIZER_FILE
from lfm_runtime.disk.input_files import content_digest

Mutation = Callable[[random.Random, Path], str]
"""Changes a checkpoint folder and returns what it did."""

TENSOR_FILES = (MODEL_FILE, NORMALIZER_FILE)
FILES = (CONFIG_FILE, *TENSOR_FILES)


# -- bytes of any file ----------------------------------------------------------------------------


def flip_bytes(rng: random.Random, folder: Path) -> str:
    path = folder / rng.choice(FILES)
    content = bytearray(path.read_bytes())
    # Headers are a small part of a file, and the most interesting one.
    end = len(content) if rng.random() < 0.5 else min(len(content), 300)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        content[rng.randrange(end)] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"flip bytes of {path.name}"


def truncate(rng: random.Random, folder: Path) -> str:
    path = folder / rng.choice(FILES)
    content = path.read_bytes()
    length = rng.choice((0, 1, 7, 8, 9, rng.randrange(len(content)), len(content) - 1))
    path.write_bytes(content[:length])
    return f"truncate {path.name} to {length}"


def extend(rng: random.Random, folder: Path) -> str:
    path = folder / rng.choice(FILES)
    extra = rng.choice((b"\0", b" ", b"\n{}", rng.randbytes(rng.randrange(1, 10_000))))
    with path.open("ab") as file:
        file.write(extra)
    return f"extend {path.name} by {len(extra)}"


def extend_sparse(rng: random.Random, folder: Path) -> str:
    path = folder / rng.choice(FILES)
    size = rng.choice((1 << 31, 1 << 35, 1 << 40))
    os.truncate(path, size)
    return f"extend {path.name} to {size}"


def remove(rng: random.Random, folder: Path) -> str:
    path = folder / rng.choice(FILES)
    path.unlink()
    return f"remove {path.name}"


def replace_by_something_else(rng: random.Random, folder: Path) -> str:
    path = folder / rng.choice(FILES)
    path.unlink()
    kind = rng.choice(("folder", "pipe", "link to itself", "link to a device", "noise"))
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to itself":
        path.symlink_to(path.name)
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(rng.randbytes(rng.randrange(1, 5000)))
    return f"replace {path.name} by a {kind}"


def swap(rng: random.Random, folder: Path) -> str:
    first, second = rng.sample(FILES, 2)
    contents = (folder / first).read_bytes(), (folder / second).read_bytes()
    (folder / second).write_bytes(contents[0])
    (folder / first).write_bytes(contents[1])
    return f"swap {first} and {second}"


# -- config.json ----------------------------------------------------------------------------------


def _nested(depth: int, leaf: Any, as_list: bool) -> Any:
    for _ in range(depth):
        leaf = [leaf] if as_list else {"a": leaf}
    return leaf


def hostile_value(rng: random.Random) -> Any:
    """Return a JSON value that nobody expects."""
    numbers = [0, 1, -1, 2, 3, 64, 65, 1000, 10**6, 2**31, 2**63, 2**64 + 1, 10**30, 10**400]
    floats = [0.0, -0.5, 0.5, 1.0, 1e-320, 1e-9, 1e300, -1e308, float("nan"), float("inf")]
    texts = [
        "", " ", "x", "3", "1e3", "0x10", "true", "null", "../..", "/", "/etc/passwd", "~",
        "../../../../../../etc/passwd", "C:\\Windows", "a\0b", "\ud800", "\u202e", "\x1b[31m",
        "${oc.env:HOME}", "${name}", "${", "$", "???", "{}", "a.b[0]", "!!python/object:os.system",
        "mlp", "unet1d", "transformer", "state", "zarr", "euler", "dopri5", "parallel", "data",
        "x" * 300, "y" * 5000, "z" * 1_000_000, "%s%n", "action/scale",
    ]  # fmt: skip
    kind = rng.randrange(10)
    if kind < 3:
        return rng.choice(numbers)
    if kind < 5:
        return rng.choice(floats)
    if kind < 8:
        return rng.choice(texts)
    return rng.choice(
        (
            None,
            True,
            False,
            [],
            {},
            [1],
            ["a", None, 1.5],
            [[1, 2], [3]],
            [0.1] * 1000,
            list(range(300_000)),
            {"name": "mlp"},
            {str(n): n for n in range(50_000)},
            {"": {"": ""}},
            _nested(rng.choice((10, 50, 400, 900)), 1, rng.random() < 0.5),
        )
    )


def _all_paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    paths = [path] if path else []
    children = value.items() if isinstance(value, dict) else ()
    children = enumerate(value) if isinstance(value, list) else children
    for key, child in children:
        paths += _all_paths(child, (*path, key))
    return paths


def _set(content: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = value


def _get(content: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


HOSTILE_KEYS = (
    "", ".", "..", "a", "0", "widht", "../..", "/etc/passwd", "a.b", "a[0]", "[", "]", "a[", "[[",
    "${x}", "x" * 300, "y" * 1_000_000, "\ud800", "\0", "name", "include", "_target_", "__class__",
    "policy.horizon", "???", "content", "_metadata", "_content", "items", "keys",
)  # fmt: skip


def change_config(rng: random.Random, folder: Path) -> str:
    content = json.loads((folder / CONFIG_FILE).read_text())
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        paths = _all_paths(content)
        path = rng.choice(paths)
        operation = rng.randrange(4)
        if operation == 0:
            parent = _get(content, path[:-1])
            del parent[path[-1]]
            done.append(f"delete {path}")
        elif operation == 1:
            parents = [p for p in paths if isinstance(_get(content, p), dict)] + [()]
            parent, key = rng.choice(parents), rng.choice(HOSTILE_KEYS)
            value = hostile_value(rng)
            _set(content, (*parent, key), value)
            done.append(f"add {parent}.{key[:30]!r} = {_short(value)}")
        else:
            value = hostile_value(rng)
            _set(content, path, value)
            done.append(f"set {path} = {_short(value)}")
        if not isinstance(content, dict) or not content:
            break
    _write_config(folder, content)
    return "config: " + "; ".join(done)


# Options that agree with one another, so that they get past the first checks, and ask for a lot.
_LAYERS = {"name": "transformer", "width": 4, "n_heads": 1, "n_layers": 256, "expansion": 1}
ABSURD: tuple[dict[str, Any], ...] = (
    {"network": {"name": "mlp", "width": 16384, "n_layers": 256, "expansion": 64}},
    {"network": {"name": "mlp", "width": 16384, "n_layers": 1}, "n_blocks": 64},
    {"network": {"name": "transformer", "width": 16384, "n_layers": 256, "expansion": 64}},
    {"network": _LAYERS, "n_blocks": 64},
    {"network": {"name": "unet1d", "channels": [8192] * 8, "kernel_size": 63}},
    {"network": {"name": "unet1d", "channels": [8] * 8, "embed_dim": 4}, "n_blocks": 64},
    {"network": {"name": "unet1d", "n_groups": 1, "channels": [1], "kernel_size": 1}},
    {"encoder": {"name": "state", "hidden": [16384] * 32}},
    {"encoder": {"name": "state", "hidden": [1], "output_dim": 16384}},
    {"policy": {"horizon": 4096, "n_obs_steps": 64, "n_action_steps": 1}},
    {"policy": {"horizon": 4096, "n_obs_steps": 2, "n_action_steps": 4095}},
    {"policy": {"horizon": 3, "n_obs_steps": 2, "n_action_steps": 1}},
    {"sampler": {"solver": "heun", "nfe": 100_000}},
    {"sampler": {"solver": "dopri5", "rtol": 1e-12, "atol": 1e-12}},
    {"sampler": {"solver": "euler", "nfe": 1}},
    {"action_dim": 10_000_000},
    {"action_dim": 100_000},
    {"obs_shapes": {"agent_pos": [10_000_000] * 4, "pose": [4]}},
    {"obs_shapes": {"agent_pos": [2], "pose": [4], **{f"k{n}": [1000] for n in range(62)}}},
    {"obs_shapes": {}},
    {"obs_shapes": {"../../agent_pos": [2], "pose": [4]}},
    {"obs_shapes": {"agent_pos": [2], "pose": [2, 2]}},
    {"obs_shapes": {"agent_pos": [2], "pose": [1] * 100}},
    {"obs_shapes": {"action": [2], "pose": [4]}},
    {"block_networks": [{"width": 16384}] * 2},
    {"block_networks": [{"widht": 3}, {}]},
    {"block_networks": [{"name": "unet1d"}, {}]},
    {"block_networks": [{"width": "??"}, {"width": "???"}]},
    {"block_networks": [{"width": 16, "n_layers": 10**400}, {}]},
    {"flow": {"n_blocks": 2, "step_sizes": [1e-9]}},
    {"flow": {"n_blocks": 2, "c": 10**400}},
    {"flow": {"n_blocks": 2, "block_interpolants": ["linear", "trigonometric"]}},
    {"flow": {"n_blocks": 2, "method": "data"}},
    {"training": {"block_shares": [1e308, 1e308]}},
    {"seed": 10**4000},
    {"dataset": {"name": "zarr", "path": "../../../../etc/passwd"}},
    {"dataset": {"name": "zarr", "validation_ratio": 10**400}},
    {"dataset": {"name": "zarr", "obs_keys": ["k"] * 3000}},
)


def absurd_options(rng: random.Random, folder: Path) -> str:
    content = json.loads((folder / CONFIG_FILE).read_text())
    changes = rng.choice(ABSURD)
    for key, value in changes.items():
        if key == "n_blocks":
            content["config"]["flow"]["n_blocks"] = value
            content["config"]["sampler"] = {"solver": "euler", "nfe": value}
            content["training"]["block_steps"] = [1] * value
            content["training"]["blocks"] = content["training"]["blocks"][:1] * value
        elif key in ("obs_shapes", "action_dim"):
            content["data"][key] = value
        else:
            content["config"][key] = value
    _write_config(folder, content)
    return f"options {_short(changes)}"


def change_training(rng: random.Random, folder: Path) -> str:
    content = json.loads((folder / CONFIG_FILE).read_text())
    training = content["training"]
    key = rng.choice([*training, "checkpoint", "sha256"])
    value = rng.choice(
        (hostile_value(rng), [0, 0], [1], [1, 0], ["1", "1"], [None, None], [True, True], [-1, 5])
    )
    training[key] = value
    _write_config(folder, content)
    return f"training.{key} = {_short(value)}"


def raw_json(rng: random.Random, folder: Path) -> str:
    """Texts that a JSON encoder would not write."""
    text = (folder / CONFIG_FILE).read_text().rstrip().removesuffix("}")
    end = rng.choice(
        (
            ', "deep": ' + "[" * 100_000 + "]" * 100_000 + "}",
            ', "deep": ' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "}",
            ', "config": null}',
            ', "format_version": 1.0}',
            ', "format_version": ' + "9" * 5000 + "}",
            ', "x": -Infinity}',
            ', "x": 1e999}',
            ', "x": "\\ud800\\udfff"}',
            ', "x": "\x01"}',
            ",}",
            "} {}",
            "}\n/* comment */\n",
        )
    )
    (folder / CONFIG_FILE).write_text(text + end)
    return f"raw JSON {end[:30]!r}"


def encoding(rng: random.Random, folder: Path) -> str:
    path = folder / CONFIG_FILE
    codec = rng.choice(("utf-16", "utf-8-sig", "utf-32-le", "cp037"))
    path.write_bytes(path.read_text().encode(codec))
    return f"config.json in {codec}"


# -- safetensors ----------------------------------------------------------------------------------

DTYPES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "I64", "I32", "I8",
          "U64", "U32", "U16", "U8", "BOOL", "C64", "F128", "", "f32")  # fmt: skip


def _split_tensors(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _join_tensors(path: Path, header: Any, data: bytes, *, length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + data)


def change_tensor(rng: random.Random, folder: Path) -> str:
    """Change one entry of a safetensors header."""
    path = folder / rng.choice(TENSOR_FILES)
    header, data = _split_tensors(path)
    name = rng.choice([key for key in header if key != "__metadata__"])
    entry = header[name]
    begin, end = entry["data_offsets"]
    what = rng.randrange(7)
    if what == 0:
        entry["shape"] = rng.choice(
            (
                [],
                [0],
                [1, *entry["shape"]],
                entry["shape"][::-1],
                [2**62, 4],
                [2**32, 2**32],
                [2**63],
                [10**30],
                [-1],
                [1.5],
                ["2"],
                None,
                [1] * 10_000,
                {"a": 1},
            )
        )
        done = f"shape {_short(entry['shape'])}"
    elif what == 1:
        entry["dtype"] = rng.choice(DTYPES)
        done = f"dtype {entry['dtype']}"
    elif what == 2:
        entry["dtype"], entry["shape"] = rng.choice(
            (
                ("F16", [2 * (end - begin) // 4]),
                ("F64", [(end - begin) // 8]),
                ("I32", entry["shape"]),
                ("U8", [end - begin]),
                ("BOOL", [end - begin]),
                ("F8_E4M3", [end - begin]),
                ("BF16", [*entry["shape"], 2]),
                ("C64", [(end - begin) // 8]),
            )
        )
        done = f"dtype {entry['dtype']} of the same size"
    elif what == 3:
        entry["data_offsets"] = rng.choice(
            (
                [0, end - begin],
                [begin, begin],
                [end, begin],
                [begin + 1, end + 1],
                [begin, 2**63],
                [2**64 - 4, 2**64 - 1],
                [-4, 0],
                [0, 10**30],
                [begin],
                None,
                [begin, end, end],
            )
        )
        done = f"offsets {_short(entry['data_offsets'])}"
    elif what == 4:
        other = rng.choice(list(header))
        header[name] = header[other]
        done = f"the same place as {other}"
    elif what == 5:
        del header[name]
        done = "left out of the header"
    else:
        new = rng.choice(
            ("", "x" * 100_000, "../../x", "\0", "__metadata__", "/", "action", "action/",
             "/scale", "a/b/scale", "action/scale/scale")
        )  # fmt: skip
        header[new] = header.pop(name)
        done = f"renamed to {new[:20]!r}"
    _join_tensors(path, header, data)
    return f"{path.name}: {name}: {done}"


def change_header(rng: random.Random, folder: Path) -> str:
    """Change the frame of a safetensors file."""
    path = folder / rng.choice(TENSOR_FILES)
    header, data = _split_tensors(path)
    what = rng.randrange(9)
    if what == 0:
        length = rng.choice((0, 1, 2**16, 10**8 - 1, 10**8 + 1, 2**31, 2**63, 2**64 - 1))
        _join_tensors(path, header, data, length=length)
        done = f"header length {length}"
    elif what == 1:
        text = rng.choice((b"", b"{}", b"[]", b"null", b"{", b'"a"', b"1", b"\xff\xfe", b"{" * 999))
        _join_tensors(path, text, data)
        done = f"header {text[:10]!r}"
    elif what == 2:
        text = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
        _join_tensors(path, text, data)
        done = "deep header"
    elif what == 3:
        metadata = rng.choice(({"a": 1}, {"a": "b" * 500_000}, [], None, "x", {"a": {"b": "c"}}))
        _join_tensors(path, {"__metadata__": metadata, **header}, data)
        done = f"metadata {_short(metadata)}"
    elif what == 4:
        extra = {f"extra{n}": {"dtype": "F32", "shape": [0], "data_offsets": [len(data)] * 2}
                 for n in range(rng.choice((1, 20_000)))}  # fmt: skip
        _join_tensors(path, {**header, **extra}, data)
        done = f"{len(extra)} empty tensors more"
    elif what == 5:
        extra = {
            "extra": {"dtype": "F32", "shape": [4], "data_offsets": [len(data), len(data) + 16]}
        }
        _join_tensors(path, {**header, **extra}, data + bytes(16))
        done = "a tensor more"
    elif what == 6:
        name = next(key for key in header if key != "__metadata__")
        text = json.dumps(header).rstrip("}") + "}, " + json.dumps({name: header[name]})[1:]
        _join_tensors(path, text.encode(), data)
        done = f"{name} twice"
    elif what == 7:
        _join_tensors(path, json.dumps(header).encode() + b" " * 3_000_000, data)
        done = "spaces after the header"
    else:
        _join_tensors(path, header, data[: rng.randrange(len(data))])
        done = "less data than promised"
    return f"{path.name}: {done}"


def change_values(rng: random.Random, folder: Path) -> str:
    """Write values into a tensor that no training writes."""
    path = folder / rng.choice(TENSOR_FILES)
    header, data = _split_tensors(path)
    name = rng.choice([key for key in header if key != "__metadata__"])
    begin, end = header[name]["data_offsets"]
    kind, pattern = rng.choice(
        (
            ("NaN", b"\x00\x00\xc0\x7f"),
            ("infinity", b"\x00\x00\x80\x7f"),
            ("-infinity", b"\x00\x00\x80\xff"),
            ("largest", b"\xff\xff\x7f\x7f"),
            ("subnormal", b"\x01\x00\x00\x00"),
            ("zero", bytes(4)),
            ("noise", rng.randbytes(4)),
        )
    )
    where = begin if rng.random() < 0.5 else rng.randrange(begin, end, 4)
    count = (end - begin) // 4 if where == begin else 1
    changed = data[:where] + pattern * count + data[where + 4 * count :]
    _join_tensors(path, header, changed)
    return f"{path.name}: {name}: {kind}"


# -- the pointer of a run -------------------------------------------------------------------------


def change_pointer(rng: random.Random, folder: Path) -> str:
    """Turn the folder into a run whose pointer leads somewhere; the checkpoint is 'real'."""
    real = folder / "checkpoints" / "real"
    real.mkdir(parents=True)
    for name in FILES:
        shutil.move(folder / name, real / name)
    pointer = folder / "latest"
    text = rng.choice(
        (
            b"real\n", b"", b"\n", b".", b"..", b"../..", b"/", b"/etc/passwd", b"../../secret",
            b"a\0b", b"x" * 300, "\u00e9".encode() * 200, b"\xff\xfe\x00", b"real/../real",
            b"real\nother", b"real\0", b"y" * 2_000_000, b"missing", b"~", b"$HOME",
        )
    )  # fmt: skip
    kind = rng.randrange(8)
    if kind == 0:
        pointer.mkdir()
        return "pointer is a folder"
    if kind == 1:
        os.mkfifo(pointer)
        return "pointer is a pipe"
    if kind == 2:
        pointer.write_bytes(b"real")
        os.truncate(pointer, 1 << 40)
        return "pointer of a terabyte"
    pointer.write_bytes(text)
    return f"pointer {text[:20]!r}"


# -- putting them together ------------------------------------------------------------------------

ACCIDENTS: tuple[tuple[Mutation, int], ...] = (
    (flip_bytes, 10),
    (truncate, 6),
    (extend, 4),
    (extend_sparse, 2),
    (remove, 1),
    (replace_by_something_else, 4),
    (swap, 1),
    (change_pointer, 4),
    (encoding, 1),
    (raw_json, 3),
)
ATTACKS: tuple[tuple[Mutation, int], ...] = (
    (change_config, 30),
    (absurd_options, 16),
    (change_training, 10),
    (change_tensor, 16),
    (change_header, 10),
    (change_values, 6),
    (flip_bytes, 3),
    (truncate, 2),
    (extend, 2),
)


def mutate(rng: random.Random, folder: Path) -> tuple[str, bool, str]:
    """Mutate a checkpoint folder.

    Returns:
        The name of the kind of mutation, whether checksums were recomputed, and what was done.
    """
    attack = rng.random() < 0.75
    table = ATTACKS if attack else ACCIDENTS
    mutation = rng.choices([m for m, _ in table], [weight for _, weight in table])[0]
    done = mutation(rng, folder)
    rehashed = attack and rng.random() < 0.85 and rehash(folder)
    return mutation.__name__, rehashed, done


def rehash(folder: Path) -> bool:
    """Recompute all checksums; returns whether that was possible."""
    path = folder / CONFIG_FILE
    try:
        content = json.loads(path.read_text())
        if isinstance(content.get("files"), dict):
            for name in set(TENSOR_FILES) & set(content["files"]):
                content["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        content.pop("sha256", None)
        content["sha256"] = content_digest(content)
        path.write_text(json.dumps(content))
    except (ValueError, AttributeError, RecursionError, OSError):
        return False
    return True


def _write_config(folder: Path, content: Any) -> None:
    (folder / CONFIG_FILE).write_text(json.dumps(content))


def _short(value: Any) -> str:
    text = str(value) if not isinstance(value, int) or value < 10**20 else "huge"
    return text if len(text) <= 60 else text[:57] + "..."
