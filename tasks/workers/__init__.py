"""The items of a stage on labelled Dask workers: connection and guard, bounded window, outcomes, usage.

Prefect owns stages, Dask owns items. An item is one product: its function runs on a worker with the stage's label,
reads stores, writes one attempt and returns nothing but its outcome. Arrays never travel.
"""
