"""The recipe: the parameters of all stages in one model, read from a YAML file."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, ValidationInfo, model_validator
from pydantic_core import ErrorDetails

from flows.renewal_policy import RenewalParams
from kernels.rotations import is_subgroup
from tasks.build_initial_map import BuildInitialMapParams
from tasks.check_quality import CheckQualityParams
from tasks.classify_2d import Classify2dParams
from tasks.correct_motion import CorrectMotionParams
from tasks.curate_exposures import CurateExposuresParams
from tasks.diagnose_gain import DiagnoseGainParams
from tasks.estimate_ctf import EstimateCtfParams
from tasks.extract_particles import ExtractParticlesParams
from tasks.forecast_resolution import ForecastResolutionParams
from tasks.group_optics import GroupOpticsParams
from tasks.import_session import ImportSessionParams
from tasks.pick_particles import PickParticlesParams
from tasks.records.session import StageParams
from tasks.refine_map import RefineMapParams
from tasks.report_session import ReportSessionParams
from tasks.sharpen_map import SharpenMapParams

RECIPES = Path(__file__).parents[1] / "deployments" / "recipes"


class Recipe(StageParams):
    """How a session is processed, from movies to the sharpened map."""

    import_session: ImportSessionParams = ImportSessionParams()
    diagnose_gain: DiagnoseGainParams = DiagnoseGainParams()
    correct_motion: CorrectMotionParams = CorrectMotionParams()
    estimate_ctf: EstimateCtfParams = EstimateCtfParams()
    curate_exposures: CurateExposuresParams = CurateExposuresParams()
    group_optics: GroupOpticsParams = GroupOpticsParams()
    pick_particles: PickParticlesParams
    extract_particles: ExtractParticlesParams
    classify_2d: Classify2dParams
    build_initial_map: BuildInitialMapParams
    refine_map: RefineMapParams
    sharpen_map: SharpenMapParams = SharpenMapParams()
    forecast_resolution: ForecastResolutionParams = ForecastResolutionParams()
    report_session: ReportSessionParams = ReportSessionParams()
    check_quality: CheckQualityParams = CheckQualityParams()
    renewal: RenewalParams = RenewalParams()
    """When the classes and maps of a running session are made anew."""
    batch_size: int = Field(default=100, ge=1)
    """Exposures that one Prefect task run works on."""
    max_failed_fraction: float = Field(default=0.5, ge=0, le=1)
    """The flow stops when more of the exposures than this have failed."""

    @model_validator(mode="after")
    def _first_map_lies_on_the_axes(self, info: ValidationInfo) -> Recipe:
        refined, first = self.refine_map.symmetry, self.build_initial_map.symmetry
        is_ours = self.refine_map.initial_map == "initial" and not (info.context or {}).get("is_kept")
        if is_ours and not is_subgroup(refined, first):
            raise ValueError(
                f"refine_map.symmetry is {refined} and build_initial_map.symmetry {first}, whose first map need not "
                f"lie on the axes of {refined}; set build_initial_map.symmetry to {refined} as well"
            )
        return self


def read_recipe(path: str | Path, changes: dict[str, str] | None = None) -> Recipe:
    """The recipe in a YAML file, with single values changed.

    Parameters
    ----------
    path
        File name; a bare name is looked up among the recipes that come with the project.
    changes
        ``{"refine_map.max_iterations": "15"}``; values are read as YAML.
    """
    return _recipe(recipe_content(path), parsed_values(changes or {}), f"recipe {path}")


def parsed_values(texts: Mapping[str, str]) -> dict[str, Any]:
    """Values as YAML reads them."""
    return {name: yaml.safe_load(text) for name, text in texts.items()}


def changed_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with parameters changed: ``{"classify_2d.keep": "all"}`` or ``{"classify_2d": {"keep": "all"}}``."""
    return _recipe(recipe.model_dump(mode="json"), changes, "changes to the recipe")


def _recipe(content: dict[str, Any], changes: Mapping[str, Any], what: str) -> Recipe:
    """Raises ValueError that names every value that is wrong, or the parameter that was probably meant."""
    known = list(_parameters())
    for name, value in _flat(changes):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else f"; expected for instance {known[0]}"
            raise ValueError(f"{what}: the recipe has no parameter {name!r}{hint}")
        stage, _, parameter = name.rpartition(".")
        (content.setdefault(stage, {}) if stage else content)[parameter] = value
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        found = "; ".join(f"{_place(e['loc'])}{e['msg']}{_found(e)}" for e in error.errors())
        raise ValueError(f"{what}: {found}") from error


def _place(location: tuple[str | int, ...]) -> str:
    return f"{'.'.join(map(str, location))}: " if location else ""


def _found(error: ErrorDetails) -> str:
    """The value that is wrong; nothing where several do not go together, which the message names."""
    return "" if isinstance(error["input"], dict) else f", found {error['input']!r}"


def _flat(changes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in changes.items():
        if isinstance(value, Mapping) and "." not in name:
            yield from ((f"{name}.{inner}", what) for inner, what in value.items())
        else:
            yield name, value


def _parameters() -> Iterator[str]:
    """Names of all parameters, ``refine_map.symmetry`` and ``batch_size``."""
    for name, field in Recipe.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, StageParams):
            yield from (f"{name}.{parameter}" for parameter in field.annotation.model_fields)
        else:
            yield name


def recipe_content(path: str | Path) -> dict[str, Any]:
    """What a recipe's file says, which may lack what only a session knows."""
    file = Path(path)
    if not file.is_file() and (RECIPES / f"{path}.yaml").exists():
        file = RECIPES / f"{path}.yaml"
    try:
        return yaml.safe_load(file.read_text()) or {}
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise ValueError(f"recipe {path}: no such file; give a YAML file or one of {known}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"recipe {file}: not YAML ({error}); correct the file") from error
