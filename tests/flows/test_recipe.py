"""Recipes: those of the project are valid, changes arrive, errors say where."""

import pytest

from flows.recipe import RECIPES, read_recipe

NEEDED = {
    "import_session.pixel_size_angstrom": "1.5",
    **{
        f"{stage}.diameter_angstrom": "130"
        for stage in ("pick_particles", "extract_particles", "classify_2d", "build_initial_map", "refine_map")
    },
}


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_the_recipes_of_the_project_are_valid(name):
    assert read_recipe(name, NEEDED).import_session.pixel_size_angstrom == 1.5


def test_a_change_reaches_its_stage():
    recipe = read_recipe("default", {**NEEDED, "sharpen_map.local_step_angstrom": "5", "batch_size": "7"})
    assert recipe.sharpen_map.local_step_angstrom == 5
    assert recipe.batch_size == 7


def test_a_missing_diameter_is_named_and_a_missing_pixel_size_is_left_to_the_microscope():
    with pytest.raises(ValueError, match=r"pick_particles.diameter_angstrom: Field required"):
        read_recipe("default", {k: v for k, v in NEEDED.items() if not k.startswith("pick_particles")})
    recipe = read_recipe("default", {k: v for k, v in NEEDED.items() if "pixel" not in k})
    assert recipe.import_session.pixel_size_angstrom is None


def test_a_misspelt_parameter_is_named():
    with pytest.raises(ValueError, match=r"recipe default: .*did you mean refine_map.symmetry"):
        read_recipe("default", {**NEEDED, "refine_map.symetry": "O"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"build_initial_map.symmetry": "X9"}, "build_initial_map.symmetry: .*'X9' is unknown; expected Cn or Dn"),
        ({"refine_map.symmetry": "X9"}, "refine_map.symmetry: .*'X9' is unknown; expected Cn or Dn"),
        ({"build_initial_map.symmetry": "C4", "refine_map.symmetry": "O"}, "set build_initial_map.symmetry to O"),
        ({"estimate_ctf.min_defocus_angstrom": "60000"}, "60000 and max_defocus_angstrom 50000; expected"),
        ({"estimate_ctf.lowest_resolution_angstrom": "3"}, "expected highest_resolution_angstrom below lowest"),
        ({"curate_exposures.max_defocus_angstrom": "3000"}, "expected min_defocus_angstrom below max_defocus"),
        ({"classify_2d.resolution_angstrom": "50"}, "resolution_angstrom is 50 and first_resolution_angstrom 40"),
        ({"classify_2d.keep": "[0, -1]"}, "expected one number or more from 0 on"),
        ({"build_initial_map.restart_resolution_angstrom": "25"}, "expected restart_resolution_angstrom to be 20"),
        ({"check_quality.n_recent": "300"}, "n_recent is 300 and n_before 250"),
        ({"diagnose_gain.least_explained": "0.99"}, "expected least_explained to be 0.95 or below"),
        ({"pick_particles.hollow_fractions": "[0.0, 1.0]"}, "hollow_fractions.1: .*less than 1"),
        ({"pick_particles.relative_diameters": "[0]"}, "relative_diameters.0: .*greater than 0"),
        ({"correct_motion.n_patches": "[0, 5]"}, "n_patches.0: .*greater than or equal to 1"),
    ],
)
def test_what_no_stage_could_use_is_refused_when_the_recipe_is_read(changes, words):
    with pytest.raises(ValueError, match=words):
        read_recipe("default", {**NEEDED, **changes})


def test_a_limit_that_is_off_limits_nothing_and_a_subgroup_lies_on_the_axes():
    off = read_recipe("default", {**NEEDED, "curate_exposures.min_defocus_angstrom": "null"})
    assert off.curate_exposures.min_defocus_angstrom is None
    chosen = read_recipe("default", {**NEEDED, "build_initial_map.symmetry": "o", "refine_map.symmetry": "d4"})
    assert (chosen.build_initial_map.symmetry, chosen.refine_map.symmetry) == ("O", "D4")


def test_a_misspelt_parameter_in_a_file_is_named(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("refine_map: {symetry: O}")
    with pytest.raises(ValueError, match=r"refine_map.symetry: Extra inputs"):
        read_recipe(file, NEEDED)


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(ValueError, match="default, demo"):
        read_recipe("nonsense")


def test_a_folder_of_the_same_name_does_not_hide_a_recipe(tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_recipe("demo", NEEDED).refine_map.symmetry == "O"
