"""The way through a block: its two ends, how pairs of them are drawn, and the times between."""
