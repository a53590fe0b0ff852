"""The smallest session that every stage can work on, in some CPU-seconds; its map is not worth looking at."""

from __future__ import annotations

from pathlib import Path

from flows.recipe import Recipe, read_recipe
from tasks.simulate_session import SimulateSessionParams

TINY = SimulateSessionParams(
    seed=5, n_movies=3, n_truncated=1, shape=(420, 440), pixel_size_angstrom=3.5, n_frames=3, total_dose=18.0,
    n_particles=60, map_size=64, defocus_angstrom=(12000.0, 20000.0),
)  # fmt: skip

_DIAMETER = "125"


def tiny_recipe(folder: Path) -> Recipe:
    """For the session that `TINY` makes in ``folder``."""
    stages = ("pick_particles", "extract_particles", "classify_2d", "build_initial_map", "refine_map")
    return read_recipe(
        "demo",
        {
            "import_session.pixel_size_angstrom": "3.5",
            "import_session.dose_per_frame": "6.0",
            "import_session.gain": str(folder / "gain.mrc"),
            "import_session.defects": str(folder / "defects.txt"),
            "correct_motion.n_patches": "[1, 1]",
            "extract_particles.box_size_px": "48",
            "classify_2d.n_classes": "2",
            "classify_2d.n_iterations": "2",
            "classify_2d.keep": "all",
            "build_initial_map.n_restarts": "1",
            "build_initial_map.n_iterations": "2",
            "build_initial_map.n_final_iterations": "1",
            "refine_map.max_iterations": "2",
            "curate_exposures.max_fit_resolution_angstrom": "100",
            "report_session.max_exposures": "1",
            "curate_exposures.max_motion_angstrom": "1000",
            **{f"{stage}.diameter_angstrom": _DIAMETER for stage in stages},
        },
    )
