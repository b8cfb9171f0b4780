"""What an evaluation found, as pictures: the figure beside its numbers, captions in its films."""
