"""How everything that is drawn looks: colours, figures, and the parts that many figures share.

A figure is made, drawn and saved inside `drawing`:

    from lfm_policy.pictures import drawing, figure, save

    with drawing() as theme:
        picture = figure(10, 4, "what it shows", "of what: n, seeds, settings")
        left, right = picture.subplots(1, 2)
        left.plot(steps, losses, color=theme.block_colour(1))
        save(picture, path)

A colour means the same everywhere: that of a block, ``theme.block_colour(n)``, or that of a policy,
``theme.policy_colour(student_blocks)``; what is neither is ``theme.ink`` or ``theme.muted``. They
are told apart by colour-blind people and in grey print. Nothing here uses pyplot or its state, so
threads may draw.
"""

from __future__ import annotations

from lfm_policy.pictures.axes import draw_interval, legend_below, legend_right, log_axis
from lfm_policy.pictures.figures import drawing, figure, save
from lfm_policy.pictures.theme import DARK, LIGHT, Theme

__all__ = [
    "DARK",
    "LIGHT",
    "Theme",
    "draw_interval",
    "drawing",
    "figure",
    "legend_below",
    "legend_right",
    "log_axis",
    "save",
]
