"""The Zarr stores of a session; the only folder that imports zarr."""
