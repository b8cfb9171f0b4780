"""What blocks are trained on: demonstrations, their order, and what happens to them on the way."""
