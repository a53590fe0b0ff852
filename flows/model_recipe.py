"""The recipe of a model: the parameters of all stages from a map to a judged model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.build_model import BuildModelParams
from tasks.import_map import ImportMapParams
from tasks.judge_session import JudgeSessionParams
from tasks.ligands.params import PlaceLigandsParams
from tasks.merge_models import MergeModelsParams
from tasks.model_refinement.params import RefineModelParams
from tasks.part_refinement.params import RefinePartParams
from tasks.rebuild_model import RebuildModelParams
from tasks.records.session import StageParams
from tasks.validate_model import ValidateModelParams


class ModelRecipe(StageParams):
    """How a model is built into a map."""

    import_map: ImportMapParams | None = None
    """Files of a map that another program made; without them the session's sharpened map is used."""
    build_model: BuildModelParams = Field(default_factory=BuildModelParams)
    refine_model: RefineModelParams = Field(default_factory=RefineModelParams)
    validate_model: ValidateModelParams = Field(default_factory=lambda: ValidateModelParams(is_network_asked=True))
    rebuild_model: RebuildModelParams = Field(default_factory=RebuildModelParams)
    n_rounds: int = Field(default=2, ge=0, le=10)
    """Most rounds in which what is not trusted is built anew, refined and judged again."""
    merge_models: MergeModelsParams | None = None
    """Placed predictions that the model is merged with, in a round of its own after those; None for none."""
    n_template_rounds: int | None = Field(default=None, ge=0, le=5)
    """Most rounds after that in which the engine of those predictions is shown the best model, and predicts anew; None
    for one where an engine was run and there are half maps, none where predictions are from files."""
    place_ligands: PlaceLigandsParams = Field(default_factory=PlaceLigandsParams)
    judge_session: JudgeSessionParams = Field(default_factory=JudgeSessionParams)
    """What the model is compared with, and the resolution that is to be reached, for the decision at the end."""
    act_on_verdict: Literal["none", "rebuild", "refine", "all"] = "none"
    """Which decisions are followed at once, in one round that is kept where it is better: *rebuild here*, *refine the
    map here*, or both."""
    refine_part: RefinePartParams = Field(default_factory=RefinePartParams)
    """How the part of the map is refined; its mask is that of the verdict."""
