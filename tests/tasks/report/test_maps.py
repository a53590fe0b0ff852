"""The report tells of every map, those of parts and those joined with them, too."""

import re
from pathlib import Path

import numpy as np

from tasks.records.density_map import DensityMap
from tasks.records.session import StageParams
from tasks.report_session import ReportSessionParams, report_session
from tasks.stores.products.map_store import describe
from tests.truth.filled_session import fill_session


def test_maps_of_parts_are_told_in_the_order_of_their_making(store):
    fill_session(store)
    for name, resolution in {"part": 3.77, "joined": 3.56}.items():
        with store.product(f"maps/{name}").write("refine_part", 1, StageParams(), {}) as attempt:
            attempt.write("map", np.zeros((8, 8, 8), dtype=np.float32))
            describe(attempt, DensityMap(
                name=name, kind="refined", pixel_size_angstrom=1.4, symmetry="C1", resolution_angstrom=resolution,
                n_particles=600,
            ))  # fmt: skip
            attempt.figures.update(fsc_gain=0.147)
    html = Path(report_session.fn(store.url, ReportSessionParams())).read_text()
    told = html[html.index('<section id="map">') :].split("</section>")[0]
    names = re.findall(r"<tr><td>(\w+)</td>", told)
    assert names == ["initial", "refined", "sharpened", "part", "joined"]
    assert re.search(r"<tr><td>part</td>.*?3\.77.*?600.*?</tr>", told)
    assert "part: fsc gain 0.147" in told
