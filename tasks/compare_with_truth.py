"""A processed simulated session compared with its truth: motion, CTF, picks, first map, refined map, model.

The only stage that reads the truth; it writes nothing into the session's store.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from torch import Tensor

from kernels import fourier
from kernels.maps.alignment import align_map, map_correlation
from kernels.maps.fsc import fsc, resolution_angstrom
from kernels.masks import soft_sphere
from kernels.scores import precision_and_recall, trajectory_error
from tasks.formats.simulated_truth import MovieTruth, SessionTruth, read_truth
from tasks.formats.structure import parse_assembly, read_structure
from tasks.records.comparison import Comparison
from tasks.stores.products.exposure_store import exposure, exposure_ctf, exposure_motion
from tasks.stores.products.map_store import density_map, map_mates, read_map
from tasks.stores.products.model_store import mmcif_bytes, read_model
from tasks.stores.products.validation_store import read_validation
from tasks.stores.session_store import SessionStore
from tasks.validation.true_model import in_frame_of, model_figures

logger = logging.getLogger(__name__)

_RADIUS_ANGSTROM = 62.5
"""Of the simulated cage; a pick within half of it is right."""
_INITIAL_RESOLUTION_ANGSTROM = 15.0


@task(name="compare_with_truth", cache_policy=NO_CACHE)
def compare_with_truth(session_url: str, folder: str) -> list[Comparison]:
    """Figures of the session in ``session_url``, simulated into ``folder``, each with what is to be reached."""
    store, truth = SessionStore.open(session_url), read_truth(folder)
    pairs = list(_good_movies(store, truth))
    found = [
        *_motion(store, pairs),
        *_ctf(store, pairs),
        *_picks(store, pairs),
        *_maps(store, truth),
        *_model(store, truth),
    ]
    for line in found:
        logger.info("%s: %s %.3g %s", line.stage, line.figure, line.value, line.unit)
    return found


def _good_movies(store: SessionStore, truth: SessionTruth) -> Iterator[tuple[str, MovieTruth]]:
    """Exposures of good movies and their truth; a good movie that failed or was rejected is missing here."""
    for exposure_id in store.exposure_ids():
        if store.exposure_product(exposure_id, "curate_exposures").record_if_done() is not None:
            movie = truth.movie(exposure(store, exposure_id).name)
            if movie.kind == "good":
                yield exposure_id, movie


def _motion(store: SessionStore, pairs: list[tuple[str, MovieTruth]]) -> Iterator[Comparison]:
    errors = []
    for exposure_id, movie in pairs:
        inside = movie.inside()
        position = torch.from_numpy(movie.coordinate_px[inside]).float()
        fitted = exposure_motion(store, exposure_id).at(position).swapaxes(0, 1)
        true = torch.from_numpy(movie.trajectory_angstrom[inside]).float() / movie.pixel_size_angstrom
        errors.append(trajectory_error(fitted, true))
    yield Comparison(
        stage="motion", figure="RMS error of the trajectories", value=_root_mean_square(errors), unit="px", reach=0.3
    )
    yield Comparison(stage="motion", figure="worst movie", value=max(errors), unit="px")


def _ctf(store: SessionStore, pairs: list[tuple[str, MovieTruth]]) -> Iterator[Comparison]:
    defocus, astigmatism = [], []
    for exposure_id, movie in pairs:
        fitted = exposure_ctf(store, exposure_id)
        fitted_mean = (fitted.defocus_u_angstrom + fitted.defocus_v_angstrom) / 2
        true_mean = (movie.defocus_u_angstrom + movie.defocus_v_angstrom) / 2
        defocus.append(abs(fitted_mean - true_mean))
        # a difference of two astigmatisms with their directions is one of vectors at twice the angle
        fitted_vector = _astigmatism(
            fitted.defocus_u_angstrom, fitted.defocus_v_angstrom, np.deg2rad(fitted.defocus_angle_deg)
        )
        true_vector = _astigmatism(movie.defocus_u_angstrom, movie.defocus_v_angstrom, movie.defocus_angle_rad)
        astigmatism.append(abs(fitted_vector - true_vector))
    yield Comparison(stage="CTF", figure="median defocus error", value=statistics.median(defocus), unit="Å", reach=40)
    yield Comparison(
        stage="CTF", figure="median astigmatism error, direction included", value=statistics.median(astigmatism),
        unit="Å", reach=60,
    )  # fmt: skip


def _astigmatism(u_angstrom: float, v_angstrom: float, angle_rad: float) -> complex:
    return complex((u_angstrom - v_angstrom) * np.exp(2j * angle_rad))


def _picks(store: SessionStore, pairs: list[tuple[str, MovieTruth]]) -> Iterator[Comparison]:
    """Over all movies: a pick is right near any particle; a particle is to be found when it is whole in the frame."""
    n_right, n_recalled, n_found, n_whole = 0.0, 0.0, 0, 0
    for exposure_id, movie in pairs:
        found = torch.from_numpy(store.exposure_product(exposure_id, "pick_particles").read()["coordinate_px"])
        true = torch.from_numpy(_at_reference(store, exposure_id, movie)).to(found)
        whole = true[torch.from_numpy(movie.inside(_RADIUS_ANGSTROM / movie.pixel_size_angstrom))]
        reach = _RADIUS_ANGSTROM / 2 / movie.pixel_size_angstrom
        n_right += precision_and_recall(found, true, reach)[0] * len(found)
        n_recalled += precision_and_recall(found, whole, reach)[1] * len(whole)
        n_found += len(found)
        n_whole += len(whole)
    yield Comparison(stage="picking", figure="precision", value=n_right / max(1, n_found), reach=0.95, better="higher")
    yield Comparison(stage="picking", figure="recall", value=n_recalled / max(1, n_whole), reach=0.95, better="higher")


def _at_reference(store: SessionStore, exposure_id: str, movie: MovieTruth) -> np.ndarray:
    """(particle, 2) where the particles are on the corrected micrograph: in its reference frame."""
    frame = exposure_motion(store, exposure_id).reference_frame
    return movie.coordinate_px + movie.trajectory_angstrom[:, frame] / movie.pixel_size_angstrom


def _maps(store: SessionStore, truth: SessionTruth) -> Iterator[Comparison]:
    true = torch.from_numpy(truth.density_map()).float()
    initial = density_map(store, "initial")
    on_grid = _resampled(torch.from_numpy(read_map(store, "initial")["map"]), initial.pixel_size_angstrom, true, truth)
    coarse, true_coarse = (
        fourier.low_passed(density, truth.pixel_size_angstrom, _INITIAL_RESOLUTION_ANGSTROM)
        for density in (on_grid, true)
    )
    aligned = align_map(coarse, true_coarse, truth.symmetry)
    yield Comparison(
        stage="initial map", figure="correlation with the truth at 15 Å", value=aligned.correlation, reach=0.90,
        better="higher",
    )  # fmt: skip
    angular = map_correlation(_less_radial_average(aligned.aligned), _less_radial_average(true_coarse))
    yield Comparison(stage="initial map", figure="the same less the radial average", value=angular, better="higher")
    refined = density_map(store, "refined")
    reader = read_map(store, "refined")
    mean = torch.from_numpy((reader["half_1"] + reader["half_2"]) / 2).float()
    moved = align_map(_resampled(mean, refined.pixel_size_angstrom, true, truth), true, truth.symmetry).aligned
    mask = _sphere(true, truth.pixel_size_angstrom)
    curve = fsc(moved * mask, true * mask)
    against_truth = resolution_angstrom(curve, len(true), truth.pixel_size_angstrom, 0.5)
    yield Comparison(stage="refinement", figure="map-to-truth FSC 0.5", value=against_truth, unit="Å", reach=5.0)
    half_maps = refined.resolution_angstrom or float("inf")
    yield Comparison(stage="refinement", figure="half-map FSC 0.143", value=half_maps, unit="Å")
    yield Comparison(
        stage="refinement", figure="half maps against truth", value=abs(half_maps / against_truth - 1) * 100, unit="%",
        reach=10,
    )  # fmt: skip


def _model(store: SessionStore, truth: SessionTruth) -> Iterator[Comparison]:
    """All copies of the model, where there is one, against the cage's atoms."""
    built, chosen = (store.product(f"models/{name}").record() for name in ("built", "chosen"))
    if built is None or chosen is None or chosen.state != "done":
        return
    (name,) = (address.removeprefix("maps/") for address in built.inputs)
    content, unit = mmcif_bytes(store, "chosen"), read_model(store, "chosen")
    whole = parse_assembly(content, "models/chosen") or unit
    mates, about = map_mates(store, name), density_map(store, name)
    true = torch.from_numpy(truth.density_map()).float()
    on_grid = _resampled(torch.from_numpy(read_map(store, name)["map"]), about.pixel_size_angstrom, true, truth)
    lying = align_map(on_grid, true, truth.symmetry)
    centre = torch.full((3,), len(true) // 2 * truth.pixel_size_angstrom, dtype=torch.float64)
    shift = lying.shift_px * truth.pixel_size_angstrom
    moved = in_frame_of(whole, mates.centre_angstrom, lying.rotation, shift, centre, lying.is_mirrored)
    found = model_figures(moved, read_structure(truth.folder / "cage.cif"))
    judged = read_validation(store, "chosen")
    n_chains = len({residue.chain for residue in whole.residues})
    for figure, value, unit_of, reach in (
        ("hand of the map right (1: yes)", float(not lying.is_mirrored), "", 1.0),
        ("residues built within 3 Å", found.built_share, "", 0.8),
        ("the same, of the right type", found.right_type_share, "", 0.75),
    ):
        yield Comparison(stage="model", figure=figure, value=value, unit=unit_of, reach=reach, better="higher")
    yield Comparison(stage="model", figure="Cα RMSD of these", value=found.alpha_rmsd_angstrom, unit="Å")
    yield Comparison(stage="model", figure="residues that are none", value=100 * found.wrong_share, unit="%")
    favoured = judged.ramachandran_favoured_percent
    if favoured is not None:
        yield Comparison(stage="model", figure="Ramachandran favoured", value=favoured, unit="%", better="higher")
    yield Comparison(stage="model", figure="clashscore, copies included", value=judged.clashscore)
    yield Comparison(stage="model", figure="mean Q-score", value=judged.q_score, better="higher")
    yield Comparison(stage="model", figure="chains of the assembly", value=float(n_chains), better="higher")


def _resampled(density: Tensor, pixel_size_angstrom: float, true: Tensor, truth: SessionTruth) -> Tensor:
    """The map on the grid of the truth: first its sampling, then its box."""
    n_fine = round(len(density) * pixel_size_angstrom / truth.pixel_size_angstrom)
    n_fine += n_fine % 2
    fine = fourier.resample(density.float(), (n_fine,) * 3)
    out = torch.zeros_like(true)
    n = min(n_fine, len(true))
    source, target = n_fine // 2 - n // 2, len(true) // 2 - n // 2
    a, b = slice(source, source + n), slice(target, target + n)
    out[b, b, b] = fine[a, a, a]
    return out


def _less_radial_average(density: Tensor) -> Tensor:
    """What tells a cage from a plain shell of its radius."""
    n = len(density)
    axis = torch.arange(n) - n // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    shell = (z**2 + y**2 + x**2).float().sqrt().round().long().reshape(-1)
    values = density.reshape(-1)
    counts = torch.bincount(shell)
    average = torch.bincount(shell, weights=values.double()) / counts.clamp(min=1)
    return (values - average[shell].to(values.dtype)).reshape(density.shape)


def _sphere(true: Tensor, pixel_size_angstrom: float) -> Tensor:
    return soft_sphere(len(true), (_RADIUS_ANGSTROM + 8) / pixel_size_angstrom, 5.0)


def _root_mean_square(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values else float("nan")
