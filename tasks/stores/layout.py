"""The layout of a session's store: one table of every array.

A product is one Zarr group that one stage writes for one item. Its address is one of the paths below; its arrays
live in ``<address>/attempts/<attempt>``, and ``<address>/commit.json`` names the attempt to read. Small figures
stand in the commit record itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from zarr.codecs import BloscCodec, Crc32cCodec

LAYOUT_VERSION = 1
"""Raised when an address, an axis, a unit or a meaning changes."""

Codec = Literal["counts", "raw", "table"]


@dataclass(frozen=True)
class ArraySpec:
    """One row of the table."""

    product: str
    """Address of the product; <…> stands for an id."""
    name: str
    axes: tuple[str, ...]
    dtypes: tuple[str, ...]
    """Allowed; the first is the usual one."""
    chunks: tuple[int | None, ...]
    """Largest chunk along each axis, None for the whole axis."""
    unit: str
    writer: str
    """Stage that writes it."""
    is_sharded: bool = False
    """One shard holds the whole array (or, along an axis `particle`, 2048 particles)."""
    codec: Codec = "raw"


# fmt: off
LAYOUT: tuple[ArraySpec, ...] = (
    ArraySpec("exposures/<id>/import_session", "frames", ("frame", "y", "x"), ("uint8", "uint16", "int16", "float32"),
              (1, 512, 512), "counts", "import_session", is_sharded=True, codec="counts"),
    ArraySpec("exposures/<id>/import_session", "micrograph", ("y", "x"), ("float32",), (512, 512),
              "arbitrary", "import_session", is_sharded=True),
    ArraySpec("session/gain", "gain", ("y", "x"), ("float32",), (512, 512),
              "multiplies counts", "import_session", is_sharded=True),
    ArraySpec("session/gain", "is_defect", ("y", "x"), ("uint8",), (512, 512),
              "1 where bad", "import_session", is_sharded=True, codec="counts"),
    ArraySpec("exposures/<id>/diagnose_gain", "window", ("y", "x"), ("int8",), (None, None),
              "excess over expected counts in the middle, in steps of details.window_step", "diagnose_gain",
              codec="counts"),
    ArraySpec("exposures/<id>/diagnose_gain", "column_profile", ("x",), ("float32",), (None,),
              "mean excess over mean expected counts of a column", "diagnose_gain"),
    ArraySpec("exposures/<id>/diagnose_gain", "row_profile", ("y",), ("float32",), (None,),
              "the same of a row", "diagnose_gain"),
    ArraySpec("exposures/<id>/diagnose_gain", "odd_pixel", ("pixel",), ("int64",), (None,),
              "index in the flattened frame of hot and dead pixels", "diagnose_gain", codec="counts"),
    ArraySpec("exposures/<id>/diagnose_gain", "evidence", ("use", "sum"), ("float64",), (None, None),
              "see kernels.movies.gain_evidence.evidence", "diagnose_gain"),
    ArraySpec("session/gain_diagnosis", "column_sum", ("x",), ("float32",), (None,),
              "sum of column profiles", "diagnose_gain"),
    ArraySpec("session/gain_diagnosis", "row_sum", ("y",), ("float32",), (None,),
              "sum of row profiles", "diagnose_gain"),
    ArraySpec("session/gain_diagnosis", "window_sum", ("y", "x"), ("float32",), (None, None),
              "sum of windows, excess over expected counts", "diagnose_gain"),
    ArraySpec("session/gain_diagnosis", "known_odd_pixel", ("pixel",), ("int64",), (None,),
              "index in the flattened frame of hot and dead pixels that are no news", "diagnose_gain", codec="counts"),
    ArraySpec("session/gain_diagnosis", "series", ("exposure", "figure"), ("float32",), (None, None),
              "counts on a pixel, agreement with the gain, its standard error", "diagnose_gain"),
    ArraySpec("session/gain_diagnosis", "evidence", ("use", "sum"), ("float64",), (None, None),
              "see kernels.movies.gain_evidence.evidence", "diagnose_gain"),
    ArraySpec("session/gain_sums", "excess", ("half", "y", "x"), ("float32",), (1, 512, 512),
              "counts less those of the surroundings", "diagnose_gain", is_sharded=True),
    ArraySpec("session/gain_sums", "expected", ("half", "bin_y", "bin_x"), ("float32",), (1, 512, 512),
              "mean counts of the surroundings in bins of 8 px", "diagnose_gain", is_sharded=True),
    ArraySpec("session/gain_sums", "n_hot", ("y", "x"), ("int16",), (512, 512),
              "exposures in which the pixel was hot", "diagnose_gain", is_sharded=True, codec="counts"),
    ArraySpec("session/gain_sums", "n_exposures", ("half",), ("int64",), (None,),
              "", "diagnose_gain"),
    ArraySpec("session/estimated_gain", "gain", ("y", "x"), ("float32",), (512, 512),
              "multiplies counts", "diagnose_gain", is_sharded=True),
    ArraySpec("session/estimated_gain", "is_defect", ("y", "x"), ("uint8",), (512, 512),
              "1 where bad", "diagnose_gain", is_sharded=True, codec="counts"),
    ArraySpec("exposures/<id>/correct_motion", "micrograph", ("y", "x"), ("float32",), (512, 512),
              "arbitrary, dose weighted", "correct_motion", is_sharded=True),
    ArraySpec("exposures/<id>/correct_motion", "unweighted_micrograph", ("y", "x"), ("float32",), (512, 512),
              "arbitrary, plain sum, for the CTF", "correct_motion", is_sharded=True),
    ArraySpec("exposures/<id>/correct_motion", "global_shift_angstrom", ("frame", "yx"), ("float32",), (None, None),
              "Å, motion of the specimen since the reference frame", "correct_motion"),
    ArraySpec("exposures/<id>/correct_motion", "patch_center_px", ("patch", "yx"), ("float32",), (None, None),
              "px of the frame", "correct_motion"),
    ArraySpec("exposures/<id>/correct_motion", "patch_shift_angstrom", ("patch", "frame", "yx"), ("float32",),
              (None, None, None), "Å, motion at each patch centre by the fitted model, global motion included",
              "correct_motion"),
    ArraySpec("exposures/<id>/correct_motion", "local_control_angstrom", ("k_t", "k_y", "k_x", "yx"), ("float32",),
              (None, None, None, None), "Å, control points of the local motion's B-spline, see kernels.movies.motion",
              "correct_motion"),
    ArraySpec("exposures/<id>/estimate_ctf", "power_spectrum", ("y", "x_half"), ("float32",), (None, None),
              "amplitude over its radial trend less one, as of a 512 × 512 px micrograph, rfft order", "estimate_ctf"),
    ArraySpec("exposures/<id>/estimate_ctf", "fit_curves", ("curve", "frequency"), ("float32",), (None, None),
              "rows: frequency 1/Å, observed and fitted rings as share of the power, correlation over three rings",
              "estimate_ctf"),
    ArraySpec("exposures/<id>/pick_particles", "coordinate_px", ("particle", "yx"), ("float32",), (None, None),
              "px of the micrograph", "pick_particles"),
    ArraySpec("exposures/<id>/pick_particles", "score", ("particle",), ("float32",), (None,),
              "", "pick_particles"),
    ArraySpec("exposures/<id>/extract_particles", "image", ("particle", "y", "x"), ("float16",), (8, None, None),
              "background mean 0, standard deviation 1; protein dark", "extract_particles", is_sharded=True),
    ArraySpec("exposures/<id>/extract_particles", "<column>", ("particle", "..."), (), (None,),
              "see records.particles", "extract_particles", codec="table"),
    ArraySpec("particles/<name>", "<column>", ("particle", "..."), (), (None,),
              "see records.particles", "classify_2d, refine_map, refine_part", codec="table"),
    ArraySpec("classes/<name>", "class_average", ("class", "y", "x"), ("float32",), (None, None, None),
              "protein bright", "classify_2d"),
    ArraySpec("classes/<name>", "noise_variance", ("shell",), ("float32",), (None,),
              "mean |noise|² of a coefficient of the images over their box", "classify_2d"),
    ArraySpec("maps/<name>", "map", ("z", "y", "x"), ("float32",), (64, 64, 64),
              "protein positive",
              "build_initial_map, refine_map, refine_part, sharpen_map, import_map, flip_map, join_maps",
              is_sharded=True),
    ArraySpec("maps/<name>", "half_1", ("z", "y", "x"), ("float32",), (64, 64, 64),
              "unfiltered", "refine_map, refine_part, import_map, flip_map, join_maps", is_sharded=True),
    ArraySpec("maps/<name>", "half_2", ("z", "y", "x"), ("float32",), (64, 64, 64),
              "unfiltered", "refine_map, refine_part, import_map, flip_map, join_maps", is_sharded=True),
    ArraySpec("maps/<name>", "mask", ("z", "y", "x"), ("float32",), (64, 64, 64),
              "0 to 1", "refine_map, refine_part, sharpen_map, flip_map, join_maps", is_sharded=True),
    ArraySpec("maps/<name>", "local_resolution", ("z", "y", "x"), ("float32",), (64, 64, 64),
              "Å", "sharpen_map, flip_map", is_sharded=True),
    ArraySpec("maps/<name>", "fsc_curves", ("curve", "shell"), ("float32",), (None, None),
              "rows: frequency 1/Å, unmasked, masked, phase-randomised masked, corrected", "refine_map, refine_part"),
    ArraySpec("models/<name>", "mmcif", ("byte",), ("uint8",), (None,),
              "the model as an mmCIF file, UTF-8",
              "build_model, dock_model, refine_model, rebuild_model, choose_model, place_ligands", codec="counts"),
    ArraySpec("models/<name>", "placement", ("byte",), ("uint8",), (None,),
              "record of what was placed beside the chains, UTF-8", "place_ligands", codec="counts"),
    ArraySpec("models/<name>", "docking", ("byte",), ("uint8",), (None,),
              "record of what was docked where, UTF-8", "dock_model", codec="counts"),
    ArraySpec("models/<name>", "<round>", ("byte",), ("uint8",), (None,),
              "the model as one round left it, as an mmCIF file, UTF-8", "refine_model", codec="counts"),
    ArraySpec("predictions/<name>", "mmcif_<rank>", ("byte",), ("uint8",), (None,),
              "a predicted model as an mmCIF file, UTF-8, the best one of rank 0", "predict_structure", codec="counts"),
    ArraySpec("predictions/<name>", "plddt_<rank>", ("residue",), ("float32",), (None,),
              "0 to 100", "predict_structure"),
    ArraySpec("predictions/<name>", "pae_<rank>", ("residue", "residue"), ("float16",), (512, 512),
              "Å, error of the second residue where the first is laid right", "predict_structure"),
    ArraySpec("detections/<name>", "<field>", ("residue", "..."), ("float32",), (None,),
              "what the network finds in a map, see kernels.models.detections.ProteinDetections",
              "build_model, validate_model, rebuild_model"),
    ArraySpec("validations/<name>", "json", ("byte",), ("uint8",), (None,),
              "record of the model of this name, UTF-8", "validate_model, choose_model", codec="counts"),
    ArraySpec("rounds/<name>", "json", ("byte",), ("uint8",), (None,),
              "record of models up to the one of this name beside each other in one mask, UTF-8", "compare_rounds",
              codec="counts"),
    ArraySpec("verdicts/<name>", "json", ("byte",), ("uint8",), (None,),
              "what is to be done next with the model of this name, UTF-8", "judge_session", codec="counts"),
    ArraySpec("verdicts/<name>", "side", ("residue",), ("int8",), (None,),
              "of the model: index into kernels.models.disagreement.SIDES, -1 where the prediction has nothing",
              "judge_session", codec="counts"),
    ArraySpec("session/verdict", "json", ("byte",), ("uint8",), (None,),
              "what is to be done next with a session that has no model, UTF-8", "judge_session", codec="counts"),
    ArraySpec("verdicts/<name>", "mask_<number>", ("z", "y", "x"), ("float32",), (64, 64, 64),
              "0 to 1, a part that the map shows less well than the rest", "judge_session", is_sharded=True),
    ArraySpec("comparisons/<name>", "json", ("byte",), ("uint8",), (None,),
              "record of what moves from a model of the session to another state, UTF-8", "compare_states",
              codec="counts"),
    ArraySpec("comparisons/<name>", "mmcif", ("byte",), ("uint8",), (None,),
              "the other state, its largest domain laid on that of the session's model, as an mmCIF file, UTF-8",
              "compare_states", codec="counts"),
    ArraySpec("session/resolution_forecast", "points", ("point", "column"), ("float64",), (None, None),
              "columns: particles, resolution Å, error of 1/resolution 1/Å; from the refined map's subsets",
              "forecast_resolution"),
    ArraySpec("session/resolution_forecast", "curve", ("point", "column"), ("float64",), (None, None),
              "columns: particles, resolution Å: expected, and the ends of its 90 % interval", "forecast_resolution"),
    ArraySpec("session/optics_groups", "shift", ("exposure", "beam_yx_image_yx"), ("float64",), (None, None),
              "the microscope's own; not a number where it is unknown", "group_optics"),
    ArraySpec("session/optics_groups", "acquired_s", ("exposure",), ("float64",), (None,),
              "s by the microscope's clock, infinite where unknown", "group_optics"),
    ArraySpec("session/optics_groups", "cell", ("exposure",), ("int32",), (None,),
              "optics and acquisition area, index into the attribute cells", "group_optics"),
    ArraySpec("session/optics_groups", "optics_group", ("exposure",), ("int32",), (None,),
              "0 while it cannot be told; then it counts as the first of its cell", "group_optics"),
    ArraySpec("scratch/<stage>/<fingerprint>/<name>", "<any>", ("...",), (), (None,),
              "sums of one iteration", "build_initial_map, classify_2d, forecast_resolution, refine_map, refine_part"),
)
# fmt: on


def spec_of(product: str, array: str) -> ArraySpec:
    """The row of the table for an array of a product."""
    parts = product.split("/")
    for spec in LAYOUT:
        pattern = spec.product.split("/")
        is_product = len(pattern) == len(parts) and all(p.startswith("<") or p == q for p, q in zip(pattern, parts))
        fixed, mark, _ = spec.name.partition("<")
        if is_product and (spec.name == array or (mark and array.startswith(fixed))):
            return spec
    raise KeyError(f"array {array!r} of product {product!r} is not in the layout; add a row to tasks/stores/layout.py")


def creation_options(spec: ArraySpec, array: str, shape: tuple[int, ...], dtype: str) -> dict[str, Any]:
    """Keyword arguments for zarr's ``create_array``: chunks, shards and codecs of one array."""
    if "..." not in spec.axes and len(shape) != len(spec.axes):
        raise ValueError(f"{spec.product} {array} has shape {shape}, expected axes {spec.axes}")
    if spec.dtypes and dtype not in spec.dtypes:
        raise ValueError(f"{spec.product} {array} has dtype {dtype}, expected one of {spec.dtypes}")
    limits = [*spec.chunks, *([None] * (len(shape) - len(spec.chunks)))]
    chunks = tuple(max(1, n if limit is None else min(n, limit)) for n, limit in zip(shape, limits))
    shards = None
    if spec.is_sharded:
        extents = [min(n, 2048) if axis == "particle" else n for n, axis in zip(shape, spec.axes)]
        shards = tuple(max(1, -(-n // c)) * c for n, c in zip(extents, chunks))
    is_counts = spec.codec == "counts"
    compressors: Any = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle") if is_counts else Crc32cCodec()
    names = spec.axes if "..." not in spec.axes else None
    return {
        "chunks": chunks,
        "shards": shards,
        "compressors": compressors,
        "dimension_names": names,
        "attributes": {"unit": spec.unit} if spec.unit else {},
    }
