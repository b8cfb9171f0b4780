"""What commands share: their parser, options that several have, and what they print."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from lfm_runtime.policy.sampler import Sampler
from lfm_runtime.registry import nearest_names

if TYPE_CHECKING:
    from lfm_policy.config import EnvConfig
    from lfm_policy.config.sampler import SamplerChanges

OptionsT = TypeVar("OptionsT")

SOLVERS = "euler, midpoint, heun or dopri5; of diffusion policies also ddim, dpmsolver++ or ddpm"
EXPORTED_SOLVERS = "euler, midpoint or heun; of diffusion policies also ddim or dpmsolver++"


class CommandParser(argparse.ArgumentParser):
    """The parser of one command, which imports the command's module once it is chosen.

    The module's docstring is its help, what is below the first paragraph after the arguments. It
    has ``add_arguments(parser)``, and ``run(arguments)``, which returns the exit code.
    """

    def __init__(self, *, module: str, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._module = module

    def complete(self) -> None:
        """Import the command's module and add what it adds, once."""
        if not self._module:
            return
        command, self._module = importlib.import_module(self._module), ""
        self.description, _, self.epilog = (command.__doc__ or "").partition("\n\n")
        command.add_arguments(self)
        self.add_argument(
            "--plugin",
            action="append",
            default=[],
            metavar="MODULE",
            help="import a module of your own first, such as my_module or folder/my_module.py: "
            "it may add networks, methods, dataset formats, environments, robots (may be "
            "repeated)",
        )
        self.set_defaults(run=command.run, parser=self)

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """Parse as every parser does, with the arguments that the module adds."""
        self.complete()
        return super().parse_known_args(*arguments, **options)


def nearest_flags(parser: argparse.ArgumentParser, unknown: list[str]) -> str:
    """Say which flags of a command may have been meant; "" where nothing is near."""
    known = [text for action in parser._actions for text in action.option_strings]
    hints = [
        f"{flag}: {nearest_names(flag, known)}"
        for flag in (text.partition("=")[0] for text in unknown if text.startswith("--"))
    ]
    near = "; ".join(hint for hint in hints if "did you mean" in hint)
    return f" ({near})" if near else ""


def non_negative(text: str, lowest: int = 0) -> int:
    """Parse an integer of at least 0."""
    value = int(text)
    if value < lowest:
        raise argparse.ArgumentTypeError(f"{value} is {'not positive' if lowest else 'negative'}")
    return value


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    return non_negative(text, lowest=1)


def add_common_options(parser: argparse.ArgumentParser, *, seed_help: str) -> None:
    """Add ``--seed``, ``--device``, ``--json`` and ``--quiet``."""
    parser.add_argument("--seed", type=non_negative, default=None, help=seed_help)
    parser.add_argument(
        "--device", default="auto", help="auto (default), cpu, cuda or cuda:<number>"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of text and tables"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def add_runner_options(parser: argparse.ArgumentParser, *, local_cluster: str) -> None:
    """Add ``--runner`` and ``--ray-address``, whose default is described by ``local_cluster``."""
    parser.add_argument(
        "--runner",
        choices=("local", "ray"),
        default="local",
        help="where episodes run: on this machine, or as tasks of a Ray cluster (extra 'ray')",
    )
    parser.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help=f"running cluster, such as auto (default: {local_cluster})",
    )


def refuse_given(arguments: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Refuse options that would do nothing beside the others.

    Args:
        arguments: parsed.
        names: of the options that are refused where they are given, as attributes.
        why: to follow the name of one.

    Raises:
        InputError: one is given.
    """
    from lfm_policy.errors import InputError

    for name in names:
        if getattr(arguments, name) not in (None, [], ""):
            raise InputError(f"--{name.replace('_', '-')} {why}")


def renames(texts: list[str]) -> dict[str, str]:
    """Return the new names of ``--rename OLD=NEW`` by the old ones.

    Raises:
        InputError: a text is none of these.
    """
    from lfm_policy.errors import InputError

    names = {}
    for text in texts:
        old, equals, new = text.partition("=")
        if not (old and equals and new):
            raise InputError(f"--rename {text}: expected OLD=NEW")
        names[old] = new
    return names


def evaluations(text: str) -> int | list[int]:
    """Parse a number of evaluations, or those of each block: ``1,1,2``."""
    if "," not in text:
        return positive(text)
    return [positive(part) for part in text.split(",")]


def step_times(text: str) -> list[Any]:
    """Parse the times of steps: ``0.5,0.2`` for all blocks, ``[[],[],[0.3]]`` for each."""
    from lfm_policy.config.load import parse_override
    from lfm_policy.errors import InputError

    try:
        (times,) = parse_override(f"times={text if '[' in text else f'[{text}]'}").options.values()
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not isinstance(times, list):
        raise argparse.ArgumentTypeError(f"'{text[:100]}' is no list of times")
    return times


def add_sampler_options(parser: Any, *, solvers: str, several_nfe: bool = False) -> None:
    """Add ``--nfe``, ``--times``, ``--solver`` and the numbers of `Sampler`: ``--noise-scale`` ...

    Args:
        parser: or a group of one.
        solvers: names for the help.
        several_nfe: whether ``--nfe`` takes several numbers.
    """
    more = "; several give several rows" if several_nfe else ""
    parser.add_argument(
        "--nfe",
        type=evaluations,
        nargs="+" if several_nfe else None,
        help="network evaluations per chunk, or those of each block, the one at the data first: "
        f"1,1,2{more} (default: as configured)",
    )
    parser.add_argument(
        "--times",
        type=step_times,
        help="where steps end inside blocks, from 1 (noise) to 0 (data): 0.3, or of each block: "
        "'[[],[],[0.3]]' (default: as configured, or equal steps)",
    )
    parser.add_argument("--solver", help=f"{solvers} (default: as configured)")
    for number in fields(Sampler):
        if number.metadata:
            parser.add_argument(
                f"--{number.name.replace('_', '-')}",
                type=float,
                metavar=number.metadata["metavar"],
                help=f"{number.metadata['said']} (default: as configured)",
            )


def add_run_options(
    parser: argparse.ArgumentParser, *, output_help: str, resumes_a_run: bool = False
) -> None:
    """Add what every command that trains has: overrides, output, resuming.

    Args:
        parser: of the command.
        output_help: what ``--output`` is.
        resumes_a_run: whether ``--resume`` may be followed by the folder of a run; then its value
            is None where it is not given, and empty where nothing follows.
    """
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changed options")
    parser.add_argument("--output", type=Path, help=output_help)
    resume_help = "go on from the newest checkpoint in the run folder"
    if resumes_a_run:
        parser.add_argument("--resume", nargs="?", const="", metavar="RUN", help=resume_help)
    else:
        parser.add_argument("--resume", action="store_true", help=resume_help)
    add_common_options(parser, seed_help="the same as the option seed=...")


def overrides_of(arguments: argparse.Namespace) -> list[str]:
    """Return the overrides, ``--seed`` among them."""
    overrides = list(arguments.overrides)
    if arguments.seed is not None:
        overrides.append(f"seed={arguments.seed}")
    return overrides


def options_of(kind: type[OptionsT], arguments: argparse.Namespace, **given: Any) -> OptionsT:
    """Return a dataclass: ``given``, else the arguments of the same names, else its defaults."""
    named = {field.name: getattr(arguments, field.name, None) for field in fields(cast(Any, kind))}
    return kind(**{name: value for name, value in named.items() if value is not None} | given)


def sampler_of(arguments: argparse.Namespace) -> SamplerChanges:
    """Return what was asked of the sampler; None where it stays as configured."""
    from lfm_policy.config.sampler import SamplerChanges

    asked = {name: getattr(arguments, name) for name in SamplerChanges.__annotations__}
    return cast("SamplerChanges", asked)


def add_environment_options(
    parser: argparse.ArgumentParser,
    *,
    help: str = "gymnasium id (default: the configured one), or module:Name-v0: the module, which "
    "may lie in the working folder, registers it",
    unnamed: str | None = None,
    observed: bool = True,
) -> None:
    """Add which environment a policy acts in, and how it is read; see `environment_of`.

    Args:
        parser: of the command.
        help: of ``--env``.
        unnamed: what ``--env`` is where no name follows it; by default one has to follow.
        observed: whether somebody looks at its observations, so that they can be named.
    """
    nargs = None if unnamed is None else "?"
    parser.add_argument("--env", nargs=nargs, const=unnamed, help=help)
    parser.add_argument(
        "--env-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="argument of the environment, such as image_size=96 (may be repeated); those of the "
        "policy's own environment are as configured",
    )
    if observed:
        parser.add_argument(
            "--observation",
            action="append",
            default=[],
            metavar="NAME=PART",
            help="name for a part of what the environment observes: hand=[0,3] for elements of an "
            "array, state=all, image=pixels/top, left=[joints,0,7] (may be repeated; "
            "env.observations)",
        )
    parser.add_argument(
        "--success",
        choices=("info", "terminated"),
        help="what says success: info['success'] or info['is_success'] (default), or the end of an "
        "episode before its time (env.success)",
    )


def environment_of(
    arguments: argparse.Namespace, configured: EnvConfig, *, steps: int | None = None
) -> EnvConfig:
    """Return the environment that `add_environment_options` asked for.

    Args:
        arguments: parsed.
        configured: that of the policy.
        steps: another limit of steps.

    Raises:
        InputError: it does not exist.
    """
    from lfm_policy.environments import chosen_environment

    return chosen_environment(
        configured,
        arguments.env,
        max_episode_steps=steps,
        success=arguments.success,
        options=key_values(arguments.env_option),
        observations=key_values(getattr(arguments, "observation", [])),
    )


def key_values(texts: list[str]) -> dict[str, Any]:
    """Return what options ``KEY=VALUE`` say; values are parsed as YAML.

    Raises:
        InputError: one is nothing of the kind.
    """
    from lfm_policy.config.load import parse_override

    values: dict[str, Any] = {}
    for text in texts:
        values |= parse_override(text).options
    return values


def print_best(checkpoint: Path) -> None:
    """Print which policy was the best of the run of a checkpoint, if any was rolled out."""
    from lfm_policy.training.run_folder.best import best_in_words, read_best

    if (best := read_best(checkpoint.parent.parent)) is not None:
        print(best_in_words(best))


def print_json(value: Any) -> None:
    """Print one JSON object to standard output."""
    json.dump(value, sys.stdout, indent=2, allow_nan=False)
    print()
