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
    recipe = read_recipe("default", {**NEEDED, "refine_map.symmetry": "D2", "batch_size": "7"})
    assert recipe.refine_map.symmetry == "D2"
    assert recipe.batch_size == 7


def test_a_missing_diameter_is_named_and_a_missing_pixel_size_is_left_to_the_microscope():
    with pytest.raises(ValueError, match=r"pick_particles.diameter_angstrom: Field required"):
        read_recipe("default", {k: v for k, v in NEEDED.items() if not k.startswith("pick_particles")})
    recipe = read_recipe("default", {k: v for k, v in NEEDED.items() if "pixel" not in k})
    assert recipe.import_session.pixel_size_angstrom is None


def test_a_misspelt_parameter_is_named():
    with pytest.raises(ValueError, match=r"recipe default: .*did you mean refine_map.symmetry"):
        read_recipe("default", {**NEEDED, "refine_map.symetry": "O"})


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
