"""Vision backbones of transformers as encoders."""
