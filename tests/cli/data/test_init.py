"""``lfm-policy init``: files, standard output, mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lfm_policy.cli.main import main
from lfm_policy.config import load_config


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_file_is_written_and_the_next_commands_are_said(
    small_zarr: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(small_zarr), "--device", "cpu", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-3:] == [
        "  lfm-policy train small.yaml",
        "  lfm-policy check runs/small",
        "  lfm-policy export runs/small exported/small",
    ]
    assert "training: estimate: about " in shown.out
    assert "note: the steps per second are not known" in shown.err
    config = load_config("small.yaml")
    assert config.name == "small" and config.dataset.obs_keys == ["agent_pos", "pose"]
    # What is there is not written over.
    before = Path("small.yaml").read_text()
    assert main(["init", str(small_zarr)]) == 2
    assert "small.yaml: exists already" in capsys.readouterr().err
    arguments = ["init", str(small_zarr), "--force", "--json", "--fps", "5", "--device", "cpu"]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["file"] == "small.yaml" and printed["config"]["policy"]["horizon"] == 8
    assert Path("small.yaml").read_text() != before


def test_blocks_that_are_asked_once_have_a_file_and_a_run_of_their_own(
    small_zarr: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(small_zarr), "--direct", "--device", "cpu", "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[-3:] == [
        "  lfm-policy train small_direct.yaml",
        "  lfm-policy check runs/small_direct",
        "  lfm-policy export runs/small_direct exported/small_direct",
    ]
    assert "training: estimate: about " in shown and "a student" not in shown
    assert load_config("small_direct.yaml").name == "small_direct"


def test_standard_output_holds_the_configuration_alone(
    small_zarr: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(small_zarr), "-o", "-", "--device", "cpu", "--quiet"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["dataset"]["path"] == str(small_zarr)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["DATA", "-o", "robot.txt"], "expected a name that ends in .yaml"),
        (["DATA", "-o", "-", "--json"], "give one of them"),
        (["DATA", "--action-key", "pos"], "no array 'pos' to imitate"),
    ],
)
def test_mistakes_write_nothing(
    arguments: list[str], message: str, small_zarr: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(small_zarr) if text == "DATA" else text for text in arguments]
    assert main(["init", *given, "--quiet"]) == 2
    assert message in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_numbers_must_be_positive(small_zarr: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["init", str(small_zarr), "--minutes", "0"])
    assert ended.value.code == 2
    assert "is not a number above 0" in capsys.readouterr().err
