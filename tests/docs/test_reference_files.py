"""The pages on files and on the protocol name every field that the code writes or reads."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lfm_policy.assets import bundled_policy
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.errors import InputError
from lfm_policy.evaluation import report
from lfm_policy.evaluation.episodes import EpisodeResult, RolloutConfig
from lfm_policy.evaluation.report import evaluation_to_dict
from lfm_policy.serving import ServerOptions
from lfm_policy.serving.connections.requests import checked_prefix, read_request
from lfm_policy.serving.observations import ConnectionHistory
from lfm_policy.serving.served import load_served_policy
from lfm_policy.training.run_folder.metrics import MetricsLog
from lfm_runtime.control.recording.recorder import CHUNK_FIELDS, STEP_FIELDS
from lfm_runtime.export.description import AS_THEY_ARE
from lfm_runtime.policy.chunk_policy import ChunkPolicy
from lfm_runtime.wire.packing import packb
from lfm_runtime.wire.protocol import INSTRUCTIONS

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = REPOSITORY / "docs" / "reference"


def section(page: str, title: str) -> str:
    text = (PAGES / f"{page}.md").read_text()
    found = re.search(rf"^(##+) {re.escape(title)}\n(.*?)(?=^##|\Z)", text, re.M | re.S)
    assert found is not None, title
    return found[2]


def named(text: str) -> set[str]:
    """Return what a text has as code, and the ends of paths in it."""
    return {
        part for code in re.findall(r"`([^`\n]+)`", text) for part in (code, code.split("/")[-1])
    }


@pytest.fixture(scope="module")
def stored() -> dict[str, object]:
    content: dict[str, object] = json.loads(
        (bundled_policy("pusht-state") / "config.json").read_text()
    )
    return content


def test_checkpoint(stored: dict[str, object]) -> None:
    text = section("files", "Checkpoint")
    assert stored.keys() <= named(text)
    data = stored["data"]
    assert isinstance(data, dict) and data.keys() <= named(text)
    assert {path.name for path in bundled_policy("pusht-state").iterdir()} <= named(text)


def test_exported_folder() -> None:
    assert {*AS_THEY_ARE, "graph", "ranges", "data", "sha256"} <= named(
        section("files", "Exported folder")
    )


def test_recordings() -> None:
    text = section("files", "Recording")
    assert {f"steps/{name}" for name in STEP_FIELDS} <= named(text)
    assert {f"chunks/{name}" for name in (*CHUNK_FIELDS, "action", "episode")} <= named(text)


def test_kinds_of_metrics() -> None:
    kinds = re.findall(
        r"``(\w+)``", (inspect.getdoc(MetricsLog) or "").split("``kind`` (")[1].split(")")[0]
    )
    shown = re.findall(r"^\| `(\w+)` \|", section("files", "metrics.jsonl"), re.M)
    assert ["kind", *kinds] == shown


def keys_of(function: object) -> set[str]:
    """Return the keys of the dictionary that a function returns."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))  # type: ignore[arg-type]
    returned = [n.value for n in ast.walk(tree) if isinstance(n, ast.Return)]
    found = [n for n in returned if isinstance(n, ast.Dict)]
    return {str(key.value) for key in found[-1].keys if isinstance(key, ast.Constant)}


def test_eval_json() -> None:
    known = named(section("files", "eval.json"))
    assert keys_of(evaluation_to_dict) - {"weights", "training_threads"} <= known
    assert keys_of(report.Cell.summary) - {"restarted_episodes"} <= known
    assert EpisodeResult.__dataclass_fields__.keys() <= known
    assert RolloutConfig.__dataclass_fields__.keys() - {"processes", "env_options"} <= known


def test_every_format_has_a_section() -> None:
    text = (PAGES / "formats.md").read_text()
    for name in DATASET_FORMATS.names():
        assert re.search(rf"^\| \[`{name}`\]\(#", text, re.M)
        assert f"(configuration.md#dataset.name-{name})" in text


def test_metadata_and_keys_of_the_protocol() -> None:
    metadata = load_served_policy("pusht-state").metadata() | {"max_message_bytes": 0}
    assert metadata.keys() <= named(section("protocol", "Metadata"))
    shown = re.findall(r"^\| `(\w+)` \|", section("protocol", "Keys of its own"), re.M)
    assert sorted(shown) == sorted(INSTRUCTIONS)


def provoked(policy: ChunkPolicy) -> Iterator[str]:
    """Yield the messages of what can be wrong with what a robot sends."""
    spec, good = policy.spec, policy.fake_obs()
    for message in ("text", b"\xc1", packb([1]), packb({"__noise__": [1]})):
        yield refused(read_request, message)
    history, strict = (ConnectionHistory(spec, 2, strict=strict) for strict in (False, True))
    yield refused(history.add, {})
    yield refused(history.add, {**good, "__nose__": 1})
    yield refused(strict.add, {**good, "other": 1})
    for wrong in (np.zeros(3), np.array(["a", "b"]), np.full(2, np.nan), np.zeros((2, 2))):
        yield refused(history.add, {**good, "agent_pos": wrong})
    yield refused(lambda: checked_prefix(np.zeros((1, 2)), max_prefix=0, spec=spec))


def refused(function: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments)
    return str(error.value)


def test_errors_of_the_protocol_are_those_that_a_robot_is_told() -> None:
    texts = re.findall(r"^\| `([^`]+)` \|", section("protocol", "Errors"), re.M)
    patterns = {text: re.escape(text).replace(r"\.\.\.", ".+") for text in texts}
    found = set()
    for message in provoked(load_served_policy("pusht-state").policy):
        matching = [text for text, pattern in patterns.items() if re.match(pattern, message)]
        assert matching, message
        found |= set(matching)
    # Said where a whole server is needed, or a policy that fails.
    others = ("message: more than", "message: frame with", "the policy's action", "internal error")
    assert {text for text in texts if text not in found and not text.startswith(others)} == set()


def test_limits_of_the_protocol_are_the_defaults() -> None:
    defaults, text = ServerOptions(), section("protocol", "Limits")
    for option in ("max_connections", "max_batch", "idle_timeout"):
        flag = f"`--{option.replace('_', '-')}`"
        assert re.search(rf"\| {getattr(defaults, option):g} \| {flag} \|", text), flag
    assert f"| {defaults.send_timeout:g} |" in text
