"""Imports point downwards: flows -> tasks -> kernels; a stage never imports a stage; only stores import zarr."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = {"kernels": 0, "tasks": 1, "flows": 2}
KERNEL_LIBRARIES = {"torch", "numpy", "kernels"}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; imports are absolute"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_import_points_upwards():
    for folder, floor in FLOORS.items():
        for path in modules(folder):
            for name in imports(path):
                assert FLOORS.get(name.split(".")[0], -1) <= floor, f"{path} imports {name}"


def test_a_stage_never_imports_a_stage():
    stages = {p.stem for p in (ROOT / "tasks").glob("*.py")} - {"__init__", "progress", "orders"}
    assert stages
    for path in modules("tasks"):
        for name in imports(path):
            parts = name.split(".")
            assert not (parts[0] == "tasks" and len(parts) > 1 and parts[1] in stages), f"{path} imports {name}"


def test_only_stores_import_zarr():
    for folder in FLOORS:
        for path in modules(folder):
            if ROOT / "tasks" / "stores" not in path.parents:
                assert not {n for n in imports(path) if n.split(".")[0] == "zarr"}, f"{path} imports zarr"


def test_kernels_know_tensors_only():
    import sys

    allowed = KERNEL_LIBRARIES | set(sys.stdlib_module_names)
    for path in modules("kernels"):
        for name in imports(path):
            assert name.split(".")[0] in allowed, f"{path} imports {name}"
