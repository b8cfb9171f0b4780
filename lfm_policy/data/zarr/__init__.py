"""zarr replay buffers that are not trusted."""
