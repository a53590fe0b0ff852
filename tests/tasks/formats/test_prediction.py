"""Predictions come out alike, whoever wrote them; what is no prediction is told from what was cut short."""

import io
import json
import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.formats import FormatError
from tasks.formats.prediction import read_predictions
from tasks.formats.structure import read_structure, to_gemmi, write_structure
from tests.truth.peptides import helix
from tests.truth.real_maps import REAL_DATA

N = 12
PLDDT = torch.linspace(35, 96, N)
PAE = np.abs(np.subtract.outer(np.arange(N), np.arange(N))) * 1.5 + np.tri(N) * 0.25


def model_of(scale: float = 1.0):
    model = helix("ACDEFGHIKLMN")
    return replace(model, b_factor_angstrom2=(PLDDT * scale)[model.residue])


def files_of(engine: str) -> dict[str, bytes]:
    """Two predictions of a helix, the better one second in the alphabet where the engine ranks them."""
    return {"AlphaFold Server": _server, "ColabFold": _colabfold, "Boltz": _boltz, "AlphaFold 3": _program}[engine]()


def _written(model, ending: str) -> bytes:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model.{ending}"
        write_structure(path, model)
        return path.read_bytes()


def _server() -> dict[str, bytes]:
    model = model_of()
    # AlphaFold 3 gives each atom its own
    wobble = torch.linspace(-1, 1, len(model))
    model = replace(model, b_factor_angstrom2=(model.b_factor_angstrom2 + wobble).clamp(0, 100))
    full = {
        "pae": PAE.tolist(),
        "token_chain_ids": ["A"] * N,
        "token_res_ids": list(range(1, N + 1)),
        "atom_plddts": model.b_factor_angstrom2.tolist(),
    }
    found = {}
    for number, ptm in ((0, 0.8), (1, 0.7)):
        found[f"fold_x_model_{number}.cif"] = _written(model, "cif")
        found[f"fold_x_full_data_{number}.json"] = json.dumps(full).encode()
        found[f"fold_x_summary_confidences_{number}.json"] = json.dumps({"ptm": ptm, "iptm": None}).encode()
    return {**found, "terms_of_use.md": b"terms"}


def _program() -> dict[str, bytes]:
    renamed = {"fold_x_model_0.cif": "x_model.cif", "fold_x_full_data_0.json": "x_confidences.json"}
    renamed["fold_x_summary_confidences_0.json"] = "x_summary_confidences.json"
    return {renamed[name]: content for name, content in _server().items() if name in renamed}


def _colabfold() -> dict[str, bytes]:
    found = {}
    for rank, ptm in ((1, 0.8), (2, 0.7)):
        name = f"rank_{rank:03d}_alphafold2_ptm_model_{6 - rank}_seed_000"
        found[f"x_unrelaxed_{name}.pdb"] = _written(model_of(), "pdb")
        found[f"x_scores_{name}.json"] = json.dumps(
            {"plddt": PLDDT.tolist(), "pae": PAE.tolist(), "max_pae": 31.75, "ptm": ptm}
        ).encode()
    return found


def _boltz() -> dict[str, bytes]:
    found = {}
    for number, ptm in ((0, 0.8), (1, 0.7)):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, pae=PAE)
        found[f"x_model_{number}.cif"] = _written(model_of(0.01), "cif")
        found[f"pae_x_model_{number}.npz"] = buffer.getvalue()
        found[f"confidence_x_model_{number}.json"] = json.dumps({"ptm": ptm, "complex_plddt": 0.7}).encode()
    return found


@pytest.mark.parametrize("is_zip", [False, True])
@pytest.mark.parametrize("engine", ["AlphaFold Server", "AlphaFold 3", "ColabFold", "Boltz"])
def test_every_engine_reads_alike(tmp_path, engine, is_zip):
    content = files_of(engine)
    place = tmp_path / ("x.zip" if is_zip else "run/predictions/x")
    if is_zip:
        with zipfile.ZipFile(place, "w") as archive:
            for name, held in content.items():
                archive.writestr(f"x/{name}", held)
    else:
        place.mkdir(parents=True)
        for name, held in content.items():
            (place / name).write_bytes(held)
    found = read_predictions(place if is_zip else tmp_path / "run")
    assert [p.source.rank for p in found] == list(range(len(found)))
    assert [p.structure.ptm for p in found] == [0.8, 0.7][: len(found)]
    for prediction in found:
        assert prediction.source.engine == engine
        assert prediction.source.licence
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in prediction.source.sha256.values())
        structure = prediction.structure
        torch.testing.assert_close(structure.plddt, PLDDT, atol=1.0, rtol=0)
        assert structure.pae_angstrom is not None
        np.testing.assert_allclose(structure.pae_angstrom, PAE, atol=1e-5)
        assert not structure.model.b_factor_angstrom2.any()


def test_tokens_of_a_ligand_count_as_one_residue(tmp_path):
    content = _server()
    full = json.loads(content["fold_x_full_data_0.json"])
    twice = [*range(N), N - 1]  # the last residue in two tokens
    full["pae"] = PAE[np.ix_(twice, twice)].tolist()
    full["token_chain_ids"], full["token_res_ids"] = ["A"] * (N + 1), [*range(1, N + 1), N]
    content["fold_x_full_data_0.json"] = json.dumps(full).encode()
    for name, held in content.items():
        (tmp_path / name).write_bytes(held)
    found = read_predictions(tmp_path)[0].structure.pae_angstrom
    np.testing.assert_allclose(found, PAE, atol=1e-5)


@pytest.mark.parametrize("kind", ["new", "old", "colabfold"])
def test_a_single_model_takes_the_error_beside_it(tmp_path, kind):
    write_structure(tmp_path / "AF-X1-F1-model_v4.pdb", model_of())
    first, second = np.meshgrid(np.arange(1, N + 1), np.arange(1, N + 1), indexing="ij")
    told = {
        "new": [{"predicted_aligned_error": PAE.tolist(), "max_predicted_aligned_error": 31.75}],
        "old": [
            {"residue1": first.ravel().tolist(), "residue2": second.ravel().tolist(), "distance": PAE.ravel().tolist()}
        ],
        "colabfold": {"pae": PAE.tolist()},
    }[kind]
    name = "AF-X1-F1-predicted_aligned_error_v4.json" if kind == "new" else "other.json"
    (tmp_path / name).write_text(json.dumps(told))
    given = None if kind == "new" else tmp_path / name
    (found,) = read_predictions(tmp_path / "AF-X1-F1-model_v4.pdb", given)
    np.testing.assert_allclose(found.structure.pae_angstrom, PAE, atol=1e-5)
    assert set(found.source.sha256) == {"AF-X1-F1-model_v4.pdb", name}


def test_an_error_of_another_length_is_told(tmp_path):
    write_structure(tmp_path / "m.pdb", model_of())
    (tmp_path / "pae.json").write_text(json.dumps({"pae": PAE[:-1, :-1].tolist()}))
    with pytest.raises(FormatError, match=r"PAE of 11 x 11 residues, but .*m.pdb has 12"):
        read_predictions(tmp_path / "m.pdb", tmp_path / "pae.json")


def test_b_factors_of_an_experiment_are_no_confidence(tmp_path):
    model = model_of()
    write_structure(tmp_path / "xray.pdb", replace(model, b_factor_angstrom2=torch.linspace(10, 80, len(model))))
    with pytest.raises(FormatError, match="differ between atoms of 100% of the residues"):
        read_predictions(tmp_path / "xray.pdb")
    write_structure(tmp_path / "flat.pdb", replace(model, b_factor_angstrom2=torch.full((len(model),), 20.0)))
    with pytest.raises(FormatError, match="all B-factors are 20"):
        read_predictions(tmp_path / "flat.pdb")
    write_structure(tmp_path / "large.pdb", replace(model, b_factor_angstrom2=(2 * PLDDT)[model.residue]))
    with pytest.raises(FormatError, match=r"between 70\.0 and 192\.0; expected pLDDT"):
        read_predictions(tmp_path / "large.pdb")


def test_a_file_that_was_cut_short_is_told(tmp_path):
    structure = to_gemmi(model_of())
    structure.entities[0].full_sequence = [residue.name for residue in model_of().residues]
    text = structure.make_mmcif_document().as_string()
    lines = text.splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if line.startswith("ATOM"))
    (tmp_path / "rows.cif").write_text("".join(lines[: last - 20]) + "#\n")
    with pytest.raises(FormatError, match="cut short"):
        read_predictions(tmp_path / "rows.cif")
    (tmp_path / "half.cif").write_text(text[: text.index(lines[last]) + 9])
    with pytest.raises(FormatError, match="no mmCIF that can be read"):
        read_predictions(tmp_path / "half.cif")


def test_nothing_and_something_else_are_told(tmp_path):
    with pytest.raises(FormatError, match="is not there"):
        read_predictions(tmp_path / "none.zip")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("x")
    with pytest.raises(FormatError, match=r"holds no predictions \(notes.txt\)"):
        read_predictions(tmp_path / "folder")


@pytest.mark.skipif(not REAL_DATA.exists(), reason=f"{REAL_DATA} is absent")
def test_real_files_of_alphafold():
    folder = REAL_DATA / "alphafold"
    (entry,) = read_predictions(folder / "AF-O78126-F1-model_v4.cif")
    assert (entry.source.engine, entry.source.licence) == ("AlphaFold DB", "CC-BY-4.0")
    assert entry.source.version == "AlphaFold Monomer v2.0 model"
    assert entry.structure.model.n_residues == 362
    of_atoms = entry.structure.plddt[entry.structure.model.residue]
    assert float(of_atoms.mean()) == pytest.approx(86.80, abs=0.01)  # the file's own summary is over atoms
    (other,) = read_predictions(folder / "cctbx" / "pae_model.pdb", folder / "cctbx" / "pae.json")
    assert other.structure.model.n_residues == 309
    error = other.structure.pae_angstrom
    assert error is not None and error.shape == (309, 309)
    assert 0 <= float(error.min()) < 1 and float(error.max()) <= 31.75
    assert float(error.diagonal().mean()) < 1
    alpha = read_structure(folder / "cctbx" / "pae_model.pdb").positions("CA")[:, 0]
    near = torch.cdist(alpha, alpha) < 8
    assert float(error[near].mean()) < 0.5 * float(error[~near].mean())
