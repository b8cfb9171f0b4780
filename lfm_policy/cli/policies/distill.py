"""Distil a teacher into a student that takes one step per block.

The student has --nfe blocks of one step each. Each replaces as many consecutive blocks of the
teacher (--nfe 1 or 3 where it has three), or, where --nfe is a multiple (6), an equal part of one.
With --groups 2,1 instead it has two blocks, which replace the first two (at the data side) and the
third. Options are set as section.key=value, those of the distillation itself as distill.key; the
others are the teacher's. Teacher samples are kept in the teacher's run folder for other students.

A student with --student-config sees something else than its teacher, such as cameras where that
sees the state; the demonstrations have to hold both. What it sees and how it trains is said there.

examples:
  lfm-policy distill runs/pusht-lfm4 --nfe 4 training.total_steps=24000
  lfm-policy distill runs/pusht-lfm4 --nfe 1 distill.samples=8 distill.teacher_steps=32
  lfm-policy distill runs/pusht-lfm4 --nfe 2 network.width=128 --output runs/small --resume
  lfm-policy distill runs/pusht-lfm3 --groups 2,1
  lfm-policy distill runs/pusht-lfm3 --groups 2,1 --student-config pusht/image_student
"""

from __future__ import annotations

import argparse

from lfm_policy.cli.common import add_run_options, overrides_of, positive, print_best, print_json
from lfm_policy.distillation.methods import METHODS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="checkpoint or run folder of the teacher")
    blocks = parser.add_mutually_exclusive_group(required=True)
    blocks.add_argument(
        "--nfe",
        type=positive,
        help="network evaluations per chunk: a divisor or a multiple of the teacher's number of "
        "blocks; other numbers with --groups",
    )
    blocks.add_argument(
        "--groups",
        type=_numbers,
        default=[],
        metavar="N,N,...",
        help="blocks of the teacher that each student block replaces, data side first",
    )
    parser.add_argument(
        "--method",
        default="regression",
        help=f"what a student block learns: {', '.join(METHODS.names())} (default: %(default)s)",
    )
    parser.add_argument(
        "--student-config",
        metavar="CONFIG",
        help="a bundled configuration or a YAML file of a student that sees something else than "
        "its teacher, with an encoder and networks of its own",
    )
    parser.add_argument(
        "--init-from",
        metavar="STUDENT",
        help="start from the weights of such a student, of an earlier round with fewer recordings",
    )
    add_run_options(
        parser,
        output_help="run folder (default: student-nfe<K>-<method> in the teacher's, after "
        "--groups 2,1 student-nfe2-2-1-<method>; with --student-config its name for 'student')",
    )


def _numbers(text: str) -> list[int]:
    try:
        return [positive(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}', expected numbers such as 2,1") from None


def run(arguments: argparse.Namespace) -> int:
    from lfm_policy.distillation import distill
    from lfm_policy.evaluation.evaluation import SelectionRollouts
    from lfm_policy.policy import read_header
    from lfm_policy.text.students import distance_in_words

    checkpoint = distill(
        arguments.checkpoint,
        arguments.output,
        nfe=arguments.nfe or len(arguments.groups),
        method=arguments.method,
        groups=arguments.groups,
        overrides=overrides_of(arguments),
        own=arguments.student_config,
        init_from=arguments.init_from,
        device=arguments.device,
        resume=arguments.resume,
        rollouts=SelectionRollouts(),
        quiet=arguments.quiet or arguments.json,
    )
    header = read_header(checkpoint)
    training = header.training
    if arguments.json:
        print_json({"checkpoint": str(checkpoint), "training": training})
    else:
        print(
            f"distilled with {training['steps']:,} steps in {training['train_seconds']:.0f} s "
            f"+ {training['push_seconds']:.0f} s of teacher samples: {checkpoint}"
        )
        print(distance_in_words(training))
        print_best(checkpoint)
    return 0
