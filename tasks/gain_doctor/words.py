"""Verdicts and alarms in words, with what to set in the recipe."""

from __future__ import annotations

import math

from kernels.movies.gain_evidence import GainUse, GainVerdict
from kernels.movies.pattern_watch import Finding
from tasks.gain_doctor.given_gain import GivenGain


def words_with_gain(
    verdict: GainVerdict, gain: GivenGain, factor: float, n_exposures: int
) -> tuple[str, dict[str, int | float | str]]:  # fmt: skip
    """The verdict on a gain, and the parameters of `import_session` to set."""
    best = verdict.best
    if best is None:
        return "the gain is flat and corrects nothing; give the gain reference of the detector", {}
    figures = f"agreement {best.agreement:.2f} ± {best.standard_error:.2g}"
    angle, flip, meaning = gain.absolute(best.use)
    size = (
        "" if factor == 1 else f" after binning by {factor:g}: the gain has {factor:g} pixels along each of the frames"
    )
    rebinned: dict[str, int | float | str] = {} if factor == 1 else {"gain_binning": factor * gain.binning}
    recipe = {"gain_rotation_deg": angle, "gain_flip": flip, "gain_meaning": meaning, **rebinned}
    if verdict.kind == "as given":
        part = "" if best.agreement > 0.8 else "; only in part, so it may be of another day: measure it anew"
        return f"as given{size} ({figures}){part}", rebinned
    if verdict.kind == "other way":
        return f"{_steps(best.use)}{size} ({figures}, {verdict.margin_sigma:.0f} sigma before the next)", recipe
    if verdict.kind == "ambiguous":
        return f"the gain is alike in several orientations, the best of them: {_steps(best.use)}{size} ({figures})", {}
    if verdict.kind == "already corrected":
        return (
            f"counts already corrected: they show no fixed pattern ({figures}); leave `gain` out of the recipe",
            {"gain": "null"},
        )
    if verdict.kind == "another gain":
        return (
            f"the gain of another detector, mode or day: the counts have a fixed pattern and it is not this one in any "
            f"orientation ({figures}); give the gain that belongs to the session",
            {},
        )
    needed = math.ceil(max(n_exposures + 1, verdict.exposures_needed * n_exposures))
    return f"no evidence: too few counts, about {needed} exposures are needed", {}


def _steps(use: GainUse) -> str:
    """What to do to the gain as it is in the store."""
    turned = f"rotate {use.rotation_deg}°" if use.rotation_deg else ""
    flipped = "flip vertically" if use.flip == "vertical" else ""
    meant = "use it the other way (multiply or divide)" if use.meaning == "divide" else ""
    return " and ".join(part for part in (turned, flipped, meant) if part) or "as given"


def words_without_gain(estimate: dict[str, float | int | bool]) -> tuple[str, str]:
    """Kind and words of the verdict where no gain was given."""
    if not estimate:
        return "no gain", "no gain was given, and none is made"
    n, rms = int(estimate["n_exposures"]), float(estimate["pattern_percent"])
    if estimate["is_used"]:
        n_earlier = int(estimate.get("n_earlier", 0))
        earlier = (
            f"; the motion of {n_earlier} exposures that came before it is corrected again when the session is finished"
            if n_earlier
            else ""
        )
        state = "final" if estimate["is_frozen"] else "made anew when there are twice as many"
        return (
            "no gain: estimated",
            f"no gain was given: one was made from {int(estimate['n_exposures_used'])} exposures ({state}); of "
            f"{n}, it takes away {100 * float(estimate['explained']):.0f} % of a fixed pattern of {rms:.1f} % RMS"
            f"{earlier}",
        )
    if rms < 1.0:
        return (
            "no gain: not needed",
            f"no gain was given and none is needed: the fixed pattern is below {rms:.2f} % RMS",
        )
    return "no gain", f"no gain was given, and {n} exposures have too few counts to make one"


def what_changed(finding: Finding) -> str:
    """What an alarm says after its exposure, and what to do."""
    if finding.kind == "gain agreement":
        return (
            f"the agreement of the counts with the gain changed by {finding.size:+.2f}, expected less than 0.1; the "
            "gain of the detector was measured anew or its mode was changed: import the exposures from here on as a "
            "session of their own with the gain that belongs to them"
        )
    if finding.kind == "pattern":
        return (
            f"the fixed pattern of the counts changed by {100 * finding.size:.1f} % RMS (the exposure is right to "
            "within 3); import the exposures from here on as a session of their own, with the gain that "
            "belongs to them"
        )
    assert finding.region is not None
    x, y, width, height = finding.region
    lines = f"add `{x} {y} {width} {height}` to the session's defects"
    if finding.kind == "pixels":
        return f"new bad pixels in a cluster of {width} × {height} at column {x}, row {y}; {lines}"
    name, number, count = ("column", x, width) if finding.kind == "column" else ("row", y, height)
    which = f"{name} {number}" if count == 1 else f"{name}s {number} to {number + count - 1}"
    return f"{which} counts {100 * finding.size:+.0f} % of its neighbours since then; {lines}"
