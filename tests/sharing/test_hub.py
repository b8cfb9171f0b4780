"""Policies to and from a local stand-in of the hub."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants

from lfm_policy import load_policy
from lfm_policy.checkpoint_folders import CHECKPOINT_FILES, find_checkpoint
from lfm_policy.cli.main import main
from lfm_policy.errors import InputError
from lfm_policy.importing.run import import_policy
from lfm_policy.open_policy import open_policy
from lfm_policy.policy import Policy, read_header
from lfm_policy.sharing import hub as hub_module
from lfm_policy.sharing.hub import HubName, hub_name, why_out_of_reach
from lfm_policy.sharing.push import PushOptions, push_to_hub

from .hub_server import HubServer

REPO = "someone/small-arm"
TOKEN = "hf_secret_of_nobody"


def action(policy: Policy) -> np.ndarray:
    policy.reset()
    policy.sample_seed(0, 0)
    return policy.select_action(policy.fake_obs(seed=0))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("user/name", HubName("user/name")),
        ("user/na.me-2_x@v1.0", HubName("user/na.me-2_x", "v1.0")),
        ("user/name@refs/pr/1", HubName("user/name", "refs/pr/1")),
        ("hf://user/name", HubName("user/name", explicit=True)),
        ("name", None),
        ("a/b/c", None),
        ("/user/name", None),
        ("../name", None),
        ("./name", None),
        ("user/", None),
        ("ws://host:8000", None),
        ("user/name@", None),
    ],
)
def test_names(text: str, name: HubName | None) -> None:
    assert hub_name(text) == name


def test_what_is_pushed_acts_the_same(hub: HubServer, run: Path) -> None:
    original = load_policy(run)
    url = original.push_to_hub(REPO, license="mit", description="Moves.", message="First one")
    assert url.startswith(f"{hub.url}/{REPO}/commit/")
    files = hub.files(REPO)
    assert files.keys() == {*CHECKPOINT_FILES, "README.md", ".gitattributes"}
    assert len(hub.large) == 2  # weights and normaliser, by LFS
    assert hub.repositories[REPO].messages == ["", "First one"]  # one commit
    loaded = load_policy(REPO)
    assert loaded.digest == original.digest
    np.testing.assert_array_equal(action(loaded), action(original))
    downloaded = {path for method, path in hub.requests if method == "GET" and "resolve" in path}
    assert {path.rpartition("/")[2] for path in downloaded} == set(CHECKPOINT_FILES)


def test_revisions_and_the_cache(
    hub: HubServer, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_to_hub(run, REPO)
    repository = hub.repositories[REPO]
    first = repository.branches["main"]
    repository.commit({**hub.files(REPO), "config.json": b"{}"})
    with pytest.raises(InputError, match=f"{REPO} on the hub is no policy of lfm-policy"):
        load_policy(REPO)
    for revision in (first, "v1"):
        repository.branches["v1"] = first
        policy = open_policy(f"{REPO}@{revision}")
        assert read_header(run).sha256 == policy.digest
    with pytest.raises(InputError, match="has no revision 'v2'"):
        load_policy(f"{REPO}@v2")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    load_policy(f"{REPO}@v1")
    assert len(hub.requests) == asked
    with pytest.raises(InputError, match="the hub was not reached .* was not downloaded before"):
        load_policy("someone/else")


def test_a_hub_whose_address_is_not_known_is_not_asked(
    hub: HubServer, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_to_hub(run, REPO)
    load_policy(REPO)
    asked = len(hub.requests)

    def unknown(host: str, port: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(hub_module, "getproxies", dict)
    load_policy(REPO)
    for read in (load_policy, lambda name: import_policy(name, "imported")):
        with pytest.raises(InputError, match="hub was not reached .*Name or service not known"):
            read("someone/else")
    assert len(hub.requests) == asked
    # A proxy may know what this machine does not.
    monkeypatch.setattr(hub_module, "getproxies", lambda: {"http": "", "https": ""})
    assert why_out_of_reach() == ""


def test_local_paths_and_names_of_the_package_come_first(
    hub: HubServer, run: Path, empty_folder: Path
) -> None:
    push_to_hub(run, REPO)
    asked = len(hub.requests)
    shutil.copytree(run, empty_folder / REPO)
    assert find_checkpoint(REPO).is_relative_to(REPO)
    find_checkpoint("pusht-state")
    shutil.rmtree(empty_folder / REPO)
    # The folder `someone` is still here: it may be a misspelt path.
    with pytest.raises(InputError, match=f"the hub was not asked; .* write hf://{REPO}"):
        find_checkpoint(REPO)
    with pytest.raises(InputError, match="the hub was not asked"):
        find_checkpoint("runs/arm")
    assert len(hub.requests) == asked
    assert find_checkpoint(f"hf://{REPO}").is_dir()


def test_what_is_not_there(hub: HubServer, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError,
        match=r"no such checkpoint or run folder, .*; nor is there a policy .*/a/b .*log in",
    ):
        load_policy("a/b")
    push_to_hub(run, REPO, private=True)
    assert hub.repositories[REPO].private
    load_policy(REPO)
    hub.repositories["other/private"] = hub.repositories[REPO]  # which was not downloaded yet
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(InputError, match="other/private .*if it is private, log in"):
        load_policy("other/private")
    hub.repositories["open/gate"] = hub.repositories[REPO]
    hub.repositories["open/gate"].private, hub.repositories["open/gate"].gated = False, True
    with pytest.raises(InputError, match="open only to those who were let in"):
        load_policy("open/gate")
    with pytest.raises(InputError, match=r"does not allow that \(401\)"):
        push_to_hub(run, "someone/new")


def test_other_repositories_are_not_downloaded(hub: HubServer, run: Path) -> None:
    push_to_hub(run, REPO)
    files = hub.files(REPO)
    repository = hub.repositories[REPO]
    repository.commit({"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x"})
    hub.requests.clear()
    with pytest.raises(InputError, match=r"format of its config.json is 'None', expected"):
        load_policy(REPO)
    assert not any("safetensors" in path for _, path in hub.requests)
    repository.commit({name: files[name] for name in CHECKPOINT_FILES[:2]})
    with pytest.raises(InputError, match=r"holds no normalizer.safetensors: .* not a whole one"):
        load_policy(REPO)
    repository.commit({**files, "model.safetensors": files["model.safetensors"][:-1] + b"!"})
    with pytest.raises(InputError, match="does not match the checksum"):
        load_policy(REPO)
    repository.commit({"README.md": b""})
    with pytest.raises(InputError, match="holds no config.json: it is no policy"):
        load_policy(REPO)


def test_a_public_repository_is_not_taken_for_a_private_one(hub: HubServer, run: Path) -> None:
    push_to_hub(run, REPO)
    before = len(hub.repositories[REPO].commits)
    with pytest.raises(InputError, match="is there already, and public"):
        push_to_hub(run, REPO, private=True)
    assert len(hub.repositories[REPO].commits) == before


def test_what_the_hub_says_is_passed_on(hub: HubServer, run: Path) -> None:
    with pytest.raises(InputError, match='"license" must be one of'):
        push_to_hub(run, REPO, options=PushOptions(license="proprietary"))
    assert hub.files(REPO).keys() == {".gitattributes"}
    hub.broken = True
    with pytest.raises(InputError, match="the hub answered 501"):
        push_to_hub(run, REPO)


def test_a_card_of_ones_own_and_old_exports(hub: HubServer, run: Path, tmp_path: Path) -> None:
    push_to_hub(run, REPO)
    files = hub.files(REPO)
    own = {"README.md": b"# mine", "onnx/old/policy.onnx": b"x", "notes.txt": b"y"}
    hub.repositories[REPO].commit({**files, **own})
    push_to_hub(run, REPO, options=PushOptions(card=False))
    after = hub.files(REPO)
    assert after["README.md"] == b"# mine" and after["notes.txt"] == b"y"
    assert "onnx/old/policy.onnx" not in after


def test_the_token_is_nowhere(
    hub: HubServer, run: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, logger="lfm_policy"):
        load_policy(run).push_to_hub(REPO, token=TOKEN)
        assert main(["push", str(run), REPO]) == 0
    out, err = capfd.readouterr()
    everything = out + err + caplog.text + str(hub.requests)
    assert TOKEN not in everything
    assert not any(TOKEN.encode() in content for content in hub.files(REPO).values())


@pytest.mark.slow
def test_the_commands_take_a_name_on_the_hub(
    hub: HubServer, run: Path, empty_folder: Path, tmp_path: Path
) -> None:
    """In a process for those that reach it and one for those that do not, as its variables say."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }

    program = """
import json, sys
from lfm_policy.cli.main import main

for command in json.loads(sys.argv[1]):
    if code := main(command):
        sys.exit(code)
    print(end="\\0")
"""

    def printed(*commands: list[str]) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps(commands)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=empty_folder,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\0")

    pushed, inspected, _ = printed(["push", str(run), REPO], ["inspect", REPO, "--json"])
    assert f'load_policy("{REPO}")' in pushed and read_header(run).sha256 in inspected
    environment["HF_HUB_OFFLINE"] = "1"
    distill = ["distill", REPO, "--nfe", "1", "--device", "cpu", "--quiet"]
    assert "exported" in printed(["export", REPO, "exported"], distill)[0]
    assert read_header(empty_folder / "runs" / "small-arm" / "student-nfe1-regression").complete
