"""The study's scripts: every cell of every table can be made, and every table has its place."""

from __future__ import annotations

import json
import sys
from dataclasses import astuple
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import pytest

from lfm_policy.assets import bundled_policy
from lfm_policy.cli.common import step_times
from lfm_policy.config import load_config
from lfm_policy.errors import InputError
from lfm_policy.policy.model import PolicyModel
from lfm_runtime.policy.spec import DataSpec

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture()
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(REPOSITORY / "scripts" / "studies"))
    import listed
    import metaworld_table
    import pieces
    import robomimic_table

    modules = {
        "pusht": listed,
        "pieces": pieces,
        "robomimic": robomimic_table,
        "metaworld": metaworld_table,
    }
    for name in ("pieces", "listed", "robomimic_table", "metaworld_table", "commands"):
        monkeypatch.delitem(sys.modules, name)
    return modules


def test_every_row_names_a_model_that_is_made_once(modules: dict[str, Any]) -> None:
    studies = modules["pusht"].listed_studies()
    removed = {"encoders": {"flow", "own"}}  # measured, and no longer to be trained
    for name, study in studies.items():
        order = [model for models in study.order for model in models]
        assert len(order) == len(set(order))
        for part in study.parts.values():
            named = [model for model, _ in part.rows]
            named += [model for pair in part.compare for model, _ in pair]
            known = set(named) - removed.get(name, set())
            assert known <= set(study.models), part.name
            assert known <= set(order), part.name
        for model in study.models.values():
            if model.student_config:
                assert bundled_policy(model.teacher).is_dir() and model.nfe
                load_config(model.student_config, list(model.overrides))
            elif model.teacher:
                assert model.teacher in study.models and model.nfe
            else:
                load_config(model.config, list(model.overrides))


def test_lines_with_alternatives_stand_for_one_line_each(modules: dict[str, Any]) -> None:
    script = modules["pusht"]
    assert script.lines_of("a-{2,1} {2,1}@0.6\nb 16") == ["a-2 2@0.6", "a-1 1@0.6", "b 16"]
    with pytest.raises(ValueError):
        script.lines_of("{a,b} {1,2,3}")
    model = script.model_of("$s $s-2 a.b=2 groups=2,1", {"s": "teacher=t a.b=1", "s-2": "nfe=2"})
    assert (model.teacher, model.nfe, model.groups) == ("t", 2, (2, 1))
    assert model.overrides == ("a.b=2",)
    parted = script.sampler_of("1.1.3(0.6;0.2)@0.6")
    assert (parted.nfe, parted.times) == ((1, 1, 3), ((), (), (0.6, 0.2)))
    assert str(parted) == "euler1.1.3(0.6;0.2)-noise0.6"
    assert parted.options()[:2] == ["--nfe", "1,1,3"]
    assert step_times(parted.options()[5]) == [[], [], [0.6, 0.2]]
    assert str(script.sampler_of("m2.4")) == "midpoint2.4"
    with pytest.raises(ValueError, match="no sampler"):
        script.sampler_of("1..2")
    many = script.sampler_of("m64@0.6", 1000)
    assert (str(many), many.episodes) == ("midpoint64-noise0.6", 1000)
    given = script.sampler_of("3@0.6~1")
    assert str(given) == "euler3-noise0.6-renoise1"
    assert given.options()[-2:] == ["--renoise", "1.0"]
    guided = script.sampler_of("16@0.6^1.5")
    assert str(guided) == "euler16-noise0.6-guidance1.5"
    assert guided.options()[-2:] == ["--guidance", "1.5"]
    assert str(script.sampler_of("3@0.6~1^2")) == "euler3-noise0.6-renoise1-guidance2"
    assert script.sampler_of("1.1.2^2").guidance == 2
    others = [str(script.sampler_of(text)) for text in ("16@0.6", "ddim10@1", "dpmsolver++4@1")]
    assert others == ["euler16-noise0.6", "ddim10-noise1", "dpmsolver++4-noise1"]


def test_cells_are_made_in_the_order_of_the_study(modules: dict[str, Any]) -> None:
    study = modules["pusht"].listed_studies()["state"]
    chains = list(study.wanted(["thousand", "few-steps", "students"]))
    first, second = chains[:2]
    assert (first[0], first[1]) == ("lfm3", 0) and (second[0], second[1]) == ("n3-large", 0)
    assert [str(one) for one in first[2]][:2] == ["euler16-noise0.6", "midpoint64-noise0.6"]
    assert {one.episodes for one in first[2]} == {0, 1000}
    assert {seed for model, seed, _ in chains if model == "lfm-2-obs02"} == {0}


def test_guided_teachers_and_their_students_go_together(modules: dict[str, Any]) -> None:
    study = modules["pusht"].listed_studies()["state"]
    for name in ("fm-guided-1", "lfm3-guided-1", "lfm3-guided-2"):
        student = study.models[name]
        assert student.teacher == name[:-2]
        teacher = study.models[student.teacher]
        assert load_config(teacher.config, list(teacher.overrides)).flow.drop_obs > 0
        weight = next(o for o in student.overrides if o.startswith("distill.teacher_guidance="))
        assert float(weight.partition("=")[2]) == student.recorded_with.guidance
        assert "sampler.noise_scale=1.0" in student.overrides
    spent = {
        (model, sampler.guidance is None): sampler.nfe
        for model, sampler in study.parts["guidance"].rows
        if model in ("fm-guided", "lfm3-guided")
    }
    # Twice the evaluations for as many steps.
    assert {nfe for (_, plain), nfe in spent.items() if plain} == {16}
    assert {nfe for (_, plain), nfe in spent.items() if not plain} == {32}


def test_the_table_of_seconds_has_every_model_of_the_study(modules: dict[str, Any]) -> None:
    study = modules["pusht"].listed_studies()["state"]
    named = [model for part in study.usual for model, _ in study.parts[part].rows]
    rows = [model for model, _ in study.parts["wall-clock"].rows]
    assert len(rows) == len(set(rows))
    assert set(rows) == set(named)


def test_every_model_has_words_of_its_own_for_readers(modules: dict[str, Any]) -> None:
    for study in modules["pusht"].listed_studies().values():
        named = {model for part in study.parts.values() for model, _ in part.rows}
        assert named | set(study.models) <= set(study.labels)
        assert len(set(study.labels.values())) == len(study.labels)
        assert all(label and "{" not in label for label in study.labels.values())


@pytest.mark.parametrize("demos", [200, 50])
def test_models_of_every_robomimic_task_can_be_made(modules: dict[str, Any], demos: int) -> None:
    script = modules["robomimic"]
    for task, (steps, width, _) in ((t, astuple(facts)) for t, facts in script.TASKS.items()):
        models = script.models_of(task, demos)
        for kind in script.KINDS:
            name = script.name_of(task, kind, demos)
            whole = load_config(models[name].config, list(models[name].overrides))
            assert whole.training.total_steps == steps
            assert whole.dataset.max_episodes == (None if demos == 200 else demos)
            assert (whole.flow.n_blocks, getattr(whole.network, "width", 0) == width) == (
                (3, False) if kind == "lfm" else (1, True)
            )
            assert script.POLICIES[kind][1].nfe == whole.sampler.nfe
            third = models[f"early-{name}"]
            config = load_config(third.config, list(third.overrides))
            assert config.training.total_steps == steps // 3
        assert all(model.teacher in models for model in models.values() if model.teacher)
        assert {script.name_of(task, model, demos) for model in script.POLICIES} <= set(models)


def test_one_network_has_the_parameters_of_three_blocks(modules: dict[str, Any]) -> None:
    script, counted = modules["robomimic"], {}
    spec = DataSpec(action_dim=10, obs_shapes={"object": (14,), "robot0_eef_pos": (3,)})
    for task, kind in product(("can", "tool_hang"), script.KINDS):
        made = script.models_of(task)[f"{task}-{kind}"]
        model = PolicyModel(load_config(made.config, list(made.overrides)), spec)
        counted[task, kind] = sum(p.numel() for p in model.parameters())
    for task, kind in counted:
        assert counted[task, kind] == pytest.approx(counted[task, "lfm"], rel=0.05)


def test_what_experts_of_many_tasks_did_is_read_from_their_files(
    modules: dict[str, Any], tmp_path: Path
) -> None:
    script = modules["metaworld"]
    for task, attempts in (("reach-v3", 3), ("push-v3", 2)):
        with h5py.File(tmp_path / f"{task}.hdf5", "w") as file:
            facts = {"task": task, "episodes": 2, "attempts": attempts}
            file.create_group("data").attrs["lfm_collect"] = json.dumps(facts)
    assert script.experts(tmp_path) == {
        "push-v3": {"demos": 2, "attempts": 2},
        "reach-v3": {"demos": 2, "attempts": 3},
    }
    with h5py.File(tmp_path / "door-open-v3.hdf5", "w") as file:
        file.create_group("data")
    with pytest.raises(InputError, match="door-open-v3.hdf5: it does not say how it was collected"):
        script.experts(tmp_path)


def test_other_demonstrations_have_a_table_of_their_own(
    modules: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    robomimic = modules["robomimic"]
    monkeypatch.setattr(robomimic, "measure", lambda *_: pytest.fail("something is measured"))
    with h5py.File(tmp_path / "human.hdf5", "w") as file:
        file.create_group("data")
    line = ["robomimic_table.py", "can", "--dataset", str(tmp_path / "human.hdf5")]
    for own in ([], ["--data", str(tmp_path)], ["--output", str(tmp_path)]):
        monkeypatch.setattr(sys, "argv", [*line, *own])
        with pytest.raises(SystemExit) as ended:
            robomimic.main()
        assert ended.value.code == 2 and "is not collected" in capsys.readouterr().err
    asked: list[Any] = []
    monkeypatch.setattr(robomimic, "measure", lambda _, wanted, __: asked.extend(wanted))
    monkeypatch.setattr(sys, "argv", [*line, "--data", str(tmp_path), "--output", str(tmp_path)])
    robomimic.main()
    assert "can-lfm" in [name for name, *_ in asked]


def test_the_printed_table_compares_with_lfm(
    modules: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def cell(success: str) -> dict[str, Any]:
        rate = success.count("1") / len(success)
        summary = {"success_rate": rate, "success_interval": [rate - 0.1, rate + 0.1]}
        return {"nfe": 16, "summary": summary, "success": success}

    cells = {
        "can-lfm seed0 euler16 n10 from100000": cell("1111111111"),
        "can-fm seed0 euler16 n10 from100000": cell("0000001111"),
        "can-fm seed1 euler16 n10 from100000": cell("1111111110"),
        "lift-lfm seed0 euler16 n10 from100000": cell("0000000000"),
    }
    (tmp_path / "robomimic.json").write_text(json.dumps(cells))
    modules["robomimic"].print_table(tmp_path / "robomimic.json", "can")
    lines = capsys.readouterr().out.splitlines()
    (fm,) = (line for line in lines if line.startswith("can-fm seed0"))
    assert "0.400" in fm and "-0.600 (p = 0.031)" in fm
    assert not any("lift" in line for line in lines)
    # Of another training there is nothing to compare with.
    (other,) = (line for line in lines if line.startswith("can-fm seed1"))
    assert "p =" not in other


@pytest.mark.parametrize("tasks", ["mt10", "mt50"])
def test_flow_matching_on_meta_world_has_the_parameters_of_the_blocks(
    modules: dict[str, Any], tasks: str
) -> None:
    models = modules["metaworld"].models_of(tasks)
    spec = DataSpec({"hand": (4,), "objects": (14,), "goal": (3,), "task": (int(tasks[2:]),)}, 4)
    lfm, fm = (
        sum(
            p.numel()
            for p in PolicyModel(load_config(m.config, list(m.overrides)), spec).parameters()
        )
        for m in (models[f"{tasks}-lfm"], models[f"{tasks}-fm"])
    )
    assert fm == pytest.approx(lfm, rel=0.03)


def test_episodes_on_a_cluster(modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = modules["pieces"]
    given = ["--dataset", "demos.hdf5", "--ray-address", "auto"]
    study = pieces.Study({}, pieces.study_options("").parse_args(given), "none.json", output=Path())
    ran: list[str] = []
    monkeypatch.setattr(study, "make", lambda name, seed: Path("run"))
    monkeypatch.setattr(study.commands, "run", lambda *line: ran.extend(line))
    with pytest.raises(FileNotFoundError):  # nothing was rolled out
        study.measure("can-lfm", pieces.Sampler(2), 0)
    assert ran[0] == "eval" and "--runner ray --ray-address auto" in " ".join(ran)


def test_blocks_for_the_encoder_of_another_model(
    modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pieces, listed = modules["pieces"], modules["pusht"].listed_studies()["images"]
    model = listed.models["image-direct"]
    assert load_config(model.config).init.blocks == "new"
    given = ["--dataset", "demos.zarr", "--output", str(tmp_path)]
    options = pieces.study_options("").parse_args(given)
    study = pieces.Study(listed.models, options, "none.json", output=Path())
    ran: list[list[str]] = []
    monkeypatch.setattr(study.commands, "run", lambda *line: ran.append(list(line)))
    study.make("image-direct", 1)
    teacher, own = ran  # which was not there yet
    assert teacher[1] == listed.models[model.encoder_of].config
    assert own[:2] == ["train", model.config]
    assert own[own.index("--init-from") + 1] == str(tmp_path / "seed1" / model.encoder_of)
