"""Diffusion models, as Diffusion Policy has them: their options, the method and its schedulers."""
