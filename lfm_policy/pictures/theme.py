"""Colours, light and dark, and the style of text and axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Theme:
    """Colours of one colour scheme.

    Attributes:
        surface: behind a figure.
        ink: text and axes.
        muted: what is less important.
        grid: lines that are hardly there.
        warning: what went wrong.
        policies: see `policy_colour`; each can also be the colour of a text.
        blocks: see `block_colour`.
        board: floor of the PushT board.
        goal: its goal zone.
        goal_line: outline of the goal zone.
        block: the T.
        agent: the agent.
        chunk: colour map from the first action of a chunk to the last one.
        follow: the chunk that is followed through all pictures.
    """

    surface: str
    ink: str
    muted: str
    grid: str
    warning: str
    policies: tuple[str, ...]
    blocks: tuple[str, ...]
    board: str
    goal: str
    goal_line: str
    block: str
    agent: str
    chunk: tuple[str, ...]
    follow: str

    def policy_colour(self, student_blocks: int = 0) -> str:
        """Return the colour of a policy.

        Args:
            student_blocks: blocks of a student, each of which is evaluated once; 0: no student.
        """
        return self.policies[min(student_blocks, len(self.policies) - 1)]

    def block_colour(self, block: int) -> str:
        """Return the colour of a block, n = 1 at the data; those that are more begin anew."""
        return self.blocks[(block - 1) % len(self.blocks)]

    def style(self) -> dict[str, Any]:
        """Return the parameters of matplotlib; `lfm_policy.pictures.drawing` sets them."""
        return {
            "font.size": 9.5,
            "figure.facecolor": self.surface,
            "axes.facecolor": self.surface,
            "savefig.facecolor": self.surface,
            "text.color": self.ink,
            "axes.labelcolor": self.muted,
            "axes.edgecolor": self.grid,
            "axes.titlecolor": self.ink,
            "axes.titlesize": 10.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": self.grid,
            "grid.linewidth": 0.7,
            "xtick.color": self.grid,
            "ytick.color": self.grid,
            "xtick.labelcolor": self.muted,
            "ytick.labelcolor": self.muted,
            "legend.frameon": False,
            "legend.fontsize": 8.5,
            # The same input gives the same bytes.
            "svg.hashsalt": "lfm-policy",
        }


LIGHT = Theme(
    surface="#ffffff",
    ink="#1b2430",
    muted="#556070",
    grid="#dfe4ea",
    warning="#c4161c",
    policies=("#08427f", "#00694b", "#b85c00", "#45220c"),
    blocks=("#4a1a7c", "#b3285a", "#937808", "#8a93a6"),
    board="#f5f7f9",
    goal="#c4e8cf",
    goal_line="#2e9e5b",
    block="#aab4c0",
    agent="#3f6fd8",
    chunk=("#f2b134", "#e5586b", "#6a2c9b"),
    follow="#0d1117",
)

DARK = Theme(
    surface="#161b22",
    ink="#e6edf3",
    muted="#9aa6b4",
    grid="#2d3540",
    warning="#ff6b6b",
    policies=("#58a8ee", "#3ccf9f", "#ffcb92", "#a87a52"),
    blocks=("#a487f5", "#ff8fc0", "#f2dd70", "#78849a"),
    board="#1d242d",
    goal="#20503a",
    goal_line="#4cc38a",
    block="#66727f",
    agent="#7aa2ff",
    chunk=("#ffd166", "#ff7a8a", "#c193ff"),
    follow="#ffffff",
)
