"""Camera frames: layouts, cached and mapped files, batches, videos."""

from lfm_policy.data.images.cache import ImageCache, cached_bytes, open_images

__all__ = ["ImageCache", "cached_bytes", "open_images"]
