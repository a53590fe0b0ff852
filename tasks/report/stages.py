"""Parameters and cost of each stage, from the commit records."""

from __future__ import annotations

import numpy as np

from tasks.plots import page
from tasks.report.contents import SET_STAGES, Contents, stages_of_models
from tasks.report.words import number_words, time_words, value_words
from tasks.stores.ledger import STAGES

_RECORDS_FOR_CPU = 300


def parameters_and_cost(contents: Contents) -> str:
    """Parameters and cost of each stage, from the commit records."""
    rows, parameters, software = [], [], set()
    exposures = [line.exposure for line in contents.ledger.lines]
    sample = [exposures[round(i)] for i in np.linspace(0, len(exposures) - 1, min(len(exposures), _RECORDS_FOR_CPU))]
    per_exposure = [(stage, [f"exposures/{e}/{stage}" for e in sample]) for stage in STAGES]
    per_session = [(stage, [address]) for stage, address in (*SET_STAGES, *stages_of_models(contents))]
    for stage, addresses in [*per_exposure, *per_session]:
        records = [record for record in (contents.record(address) for address in addresses) if record is not None]
        if not records:
            continue
        scale = len(exposures) / len(addresses) if stage in STAGES else 1.0
        seconds = scale * sum(record.cpu_seconds for record in records)
        software |= {record.software for record in records}
        latest = max(records, key=lambda record: record.written_at)
        n_done = round(scale * len(records))
        is_set = stage not in STAGES  # works in blocks, whose cost is not in the product's record
        rows.append(
            [
                stage, f"{latest.stage_version}", number_words(n_done),
                "–" if is_set else f"{seconds:.1f}", "–" if is_set else f"{seconds / max(1, n_done):.2f}",
                f"{scale * sum(record.n_bytes for record in records) / 1e6:.1f}", time_words(latest.written_at),
            ]
        )  # fmt: skip
        listed = page.table(("parameter", "value"), [(k, value_words(v)) for k, v in sorted(latest.params.items())])
        n_sets = len({tuple(sorted((k, str(v)) for k, v in record.params.items())) for record in records})
        note = f" ({n_sets} different sets; the latest)" if n_sets > 1 else ""
        parameters.append(page.folded(f"{stage}{note}", listed if latest.params else page.paragraph("no parameters")))
    if not rows:
        return page.section("stages", "Parameters and cost", page.not_yet("no stage has run"))
    words = "CPU seconds of the thread that made each product; stages of the whole session work in blocks and have none"
    if len(sample) < len(exposures):
        words += f", from {len(sample)} of {len(exposures)} exposures"
    header = ("stage", "version", "products", "CPU / s", "per product / s", "MB", "last written")
    return page.section(
        "stages", "Parameters and cost",
        page.table(header, rows, words),
        page.paragraph("Software: " + ", ".join(sorted(s for s in software if s)), "note"),
        *parameters,
    )  # fmt: skip
