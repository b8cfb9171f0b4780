"""Camera frames: layouts, cached and mapped files, batches, videos."""
