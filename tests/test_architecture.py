"""The house: three doors for Ray, imports downward only, no torch where planning happens."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "omni_ray"
DOORS = {
    "ray.data": {"omni_ray.blocks"},
    "ray.train": {"omni_ray.train.trainer"},
    "ray.tune": {"omni_ray.tune.sweep"},
    "ray": {"omni_ray.blocks", "omni_ray.runtime", "omni_ray.train.trainer", "omni_ray.tune.sweep"},
}
# Layers from the bottom up; a module imports from its own layer or from a lower one.
LAYERS: list[set[str]] = [
    {"errors", "faults", "entry"},
    {"storage", "journal", "json_text", "config", "catalog", "schedule", "counting", "datafiles", "ledger", "lease"},
    {"connection", "watch", "jobs", "runtime", "sight", "blocks"},
    {"prepare"},
    {"models"},
    {"train"},
    {"tune"},
    {"stage_schedules", "update_configs", "schedule_cli", "schedule_plot"},
    {"cli"},
]
WITHOUT_TORCH = {
    "prepare.plan",
    "prepare.budget",
    "prepare.select",
    "ledger",
    "lease",
    "catalog",
    "schedule",
    "storage",
    "counting",
}


def modules() -> list[tuple[str, Path]]:
    return [
        (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path)
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(module: str) -> int | None:
    parts = module.split(".")
    if parts[0] != "omni_ray" or len(parts) == 1:
        return None
    return next((number for number, layer in enumerate(LAYERS) if parts[1] in layer), -1)


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: str(value) if isinstance(value, str) else "")
def test_module_keeps_to_the_house(name: str, path: Path) -> None:
    imported = set(imports_of(path))
    for door, allowed in DOORS.items():
        inside = {one for one in imported if one == door or one.startswith(f"{door}.")}
        assert not inside or name in allowed, f"{name} imports {inside}: {door} has its door in {allowed}"
    mine = layer_of(name)
    assert mine != -1, f"{name} has no layer; give it one in this test"
    for one in imported:
        theirs = layer_of(one)
        if mine is not None and theirs is not None and theirs >= 0:
            assert theirs <= mine, f"{name} imports {one} from a higher layer"
    if "prepare" in name.split("."):
        assert not any(one.startswith("omni_ray.train") for one in imported), f"{name} imports training"


@pytest.mark.parametrize("name", sorted(WITHOUT_TORCH))
def test_planning_never_imports_torch(name: str) -> None:
    seen: set[str] = set()
    todo = [f"omni_ray.{name}"]
    paths = dict(modules())
    while todo:
        module = todo.pop()
        if module in seen or module not in paths:
            continue
        seen.add(module)
        for one in imports_of(paths[module]):
            assert one.split(".")[0] != "torch", f"omni_ray.{name} reaches torch through {module}"
            todo.append(one)


def test_files_and_functions_stay_readable() -> None:
    for name, path in modules():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, f"{name} is {text.count(chr(10))} lines long; split it"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                assert length <= 70, f"{name}.{node.name} is {length} lines long; split it"
