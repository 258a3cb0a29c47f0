"""The architecture: import order, heavy imports, sizes, what is public."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.modules import on_every_module

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "caffecompat"

# Lowest first: a module imports only from its own package and from those before it.
PACKAGES = [
    "errors",
    "garbage_collection",
    "first_use",
    "registry",
    "input_files",
    "output_files",
    "kept_memory",
    "large_pages",
    "reporting",
    "proto",
    "weights",
    "graph",
    "data",
    "layers",
    "net",
    "export",
    "inference",
    "solver",
    "evaluate",
    "draw",
    "logs",
    "pycaffe",
    "doctor",
    "cli",
    "run",
]
TORCH_FREE = [*PACKAGES[: PACKAGES.index("net")], "logs", "cli"]
HEAVY_FOR_CLI = {"torch", "numpy", "google", "cv2", "lmdb", "h5py", "tqdm"}

# The same inside the packages that have packages of their own; modules beside them come last.
SUBPACKAGES = {
    "proto": ["text", "upgrades", "binary"],
    "data": ["codec", "backends", "transforms", "sources", "loader", "tools"],
    "export": [
        *("inputs", "deploy", "torch_import", "passes", "layouts", "torchvision"),
        *("matconvnet", "sources"),
        *("onnx_graph", "python_code", "targets", "opencv", "engines", "verify", "convert"),
    ],
    "inference": ["torch_graph", "onnx_model", "engines"],
    "net": ["shapes", "kernels", "blobs", "parameters", "setup", "execution", "analysis"],
    "pycaffe": ["images", "proto", "execution", "nets", "solvers", "running", "scripts"],
    "draw": ["arrays"],
    "evaluate": ["images", "protocols", "classification", "features", "localisation", "detection"],
    "solver": [
        *("diagnostics", "distributed", "optim", "snapshots", "setup", "estimate", "reporters"),
    ],
}

MOST_FILES = 16
# Folders whose files are a list that a reader looks a name up in.
CATALOGUES = {"caffecompat/layers", "tests/layers/examples"}
LONGEST_FILE = 400
LONGEST_FUNCTION = 70
LONGEST_CLASS = 300
MOST_PARAMETERS = 7
# Path or path::function -> (limit, why, when it was let in).
EXCEPTIONS: dict[str, tuple[int, str, str]] = {}


def modules() -> Iterator[Path]:
    yield from sorted(PACKAGE.rglob("*.py"))


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a module's syntax tree, the module first; each file is parsed once."""
    return tuple(ast.walk(ast.parse(path.read_text())))


@pytest.fixture(scope="module", autouse=True)
def forget_modules() -> Iterator[None]:
    """So many nodes would slow down the garbage collector in the tests after these."""
    yield
    nodes_of.cache_clear()


def package_of(path: Path) -> str | None:
    """The package below ``caffecompat`` that a module belongs to; None for ``__init__`` itself."""
    parts = path.relative_to(PACKAGE).parts
    name = parts[0].removesuffix(".py")
    return None if name in ("__init__", "__main__") else name


def imports(tree: ast.AST, module_level_only: bool) -> Iterator[str]:
    """Dotted names that a module imports; blocks under TYPE_CHECKING do not count."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if module_level_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imports(node, module_level_only)


def import_graph() -> dict[str, set[str]]:
    """Which modules each module imports, anywhere in it, blocks under TYPE_CHECKING included."""
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in modules()}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found: set[str] = set()
        for node in nodes_of(path):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                found.update(one if one in names else node.module for one in full)
        graph[name] = (found & set(names)) - {name}
    return graph


def test_no_modules_import_each_other() -> None:
    left = import_graph()
    while left:
        leaves = {name for name, found in left.items() if not found & set(left)}
        assert leaves, f"these import each other in a circle: {sorted(left)}"
        left = {name: found for name, found in left.items() if name not in leaves}


def test_subpackages_are_known() -> None:
    for package, known in SUBPACKAGES.items():
        folders = {p.parent.name for p in (PACKAGE / package).glob("*/__init__.py")}
        assert folders == set(known)


def test_subpackages_import_only_earlier_ones() -> None:
    wrong = []
    for name, found in import_graph().items():
        own = name.split(".")[1:3]
        order = SUBPACKAGES.get(own[0], []) if own else []
        if len(own) < 2 or own[1] not in order:
            continue
        for other in found:
            parts = other.split(".")[1:3]
            later = order[order.index(own[1]) + 1 :]
            if len(parts) == 2 and parts[0] == own[0] and parts[1] in later:
                wrong.append(f"{name} imports {other}")
    assert not wrong


def test_every_package_is_known() -> None:
    found = {package for path in modules() if (package := package_of(path)) is not None}
    assert found == set(PACKAGES)


@on_every_module
def test_packages_import_only_lower_packages(path: Path) -> None:
    package = package_of(path)
    if package is None:
        return
    allowed = set(PACKAGES[: PACKAGES.index(package) + 1])
    for name in imports(nodes_of(path)[0], module_level_only=False):
        parts = name.split(".")
        if parts[0] == "caffecompat" and len(parts) > 1 and parts[1] in PACKAGES:
            assert parts[1] in allowed, f"{package} imports {name}, which lies above it"


@on_every_module
def test_heavy_imports_wait(path: Path) -> None:
    package = package_of(path)
    names = {n.split(".")[0] for n in imports(nodes_of(path)[0], True)}
    if package in TORCH_FREE or package is None:
        assert "torch" not in names
    if package in ("cli", None):
        assert not names & HEAVY_FOR_CLI


@on_every_module
def test_sizes(path: Path) -> None:
    key = str(path.relative_to(PACKAGE))
    length = path.read_text().count("\n")
    assert length <= EXCEPTIONS.get(key, (LONGEST_FILE,))[0], f"{key} is too long"
    for node in nodes_of(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            limit = EXCEPTIONS.get(f"{key}::{node.name}", (LONGEST_FUNCTION,))[0]
            assert lines_of(node) <= limit, f"{key}::{node.name} has {lines_of(node)} lines"
            names = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = sum(argument.arg not in ("self", "cls") for argument in names)
            assert count <= MOST_PARAMETERS or is_kernel(node), (
                f"{key}::{node.name}: {count} params"
            )
        elif isinstance(node, ast.ClassDef):
            limit = EXCEPTIONS.get(f"{key}::{node.name}", (LONGEST_CLASS,))[0]
            assert lines_of(node) <= limit, f"{key}::{node.name} has {lines_of(node)} lines"


def test_no_test_or_tool_is_too_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): path.read_text().count("\n")
        for folder in ("tests", "tools")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def is_kernel(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether it runs on a GPU, where addresses and numbers come one by one."""
    return any("triton" in ast.dump(decorator) for decorator in node.decorator_list)


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


REFERENCE = re.compile(r":(?:class|func|meth|attr|data):`~?(caffecompat(?:\.\w+)+)`")


@on_every_module
def test_references_in_docstrings(path: Path) -> None:
    """The module exists and has the name; names of its class are not looked up."""
    for reference in REFERENCE.findall(path.read_text()):
        parts = reference.split(".")
        at = ROOT
        while parts and (at / parts[0]).is_dir():
            at /= parts.pop(0)
        module = at / f"{parts[0]}.py"
        if module.exists():
            parts.pop(0)
        else:
            module = at / "__init__.py"
        assert not parts or re.search(rf"\b{parts[0]}\b", module.read_text()), reference


# What is special about a layer type stands in its file: other packages ask the layer class. A
# format of another program has words of its own for the types, and so has a pass on layers.
KNOW_LAYER_TYPES = {"layers", "proto", "weights", "export", "pycaffe"}
# Path and type name -> why it is named there.
NAMED_TYPES = {
    ("graph/splits.py", "Split"): "a graph adds such layers itself, and graph/ is below layers/",
    ("inference/onnx_model/quantization.py", "Gather"): "an operator of ONNX has this name, too",
}


def test_layer_types_are_named_in_their_files_alone() -> None:
    """Strings that are names of registered types, in code; docstrings and messages may use them."""
    from caffecompat.layers import catalogue

    own = {n for n in catalogue if catalogue.find(n).__module__.startswith("caffecompat.layers.")}
    found = {
        (str(path.relative_to(PACKAGE)), node.value)
        for path in modules()
        if package_of(path) not in KNOW_LAYER_TYPES
        for node in nodes_of(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in own
    }
    assert found == set(NAMED_TYPES), "ask the layer class, or state the reason in NAMED_TYPES"


def loaded_after(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after ``code``."""
    script = f"import sys\n{code}\nprint(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(result.stdout.splitlines()[-1].split())


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_after("from caffecompat.cli.main import main; assert main(['--help']) == 0")
    assert not loaded & HEAVY_FOR_CLI


def test_parsing_does_not_load_torch(tmp_path: Path) -> None:
    net = tmp_path / "net.prototxt"
    net.write_text('layer { name: "a" type: "Input" top: "a" }')
    loaded = loaded_after(f"import caffecompat; caffecompat.read_net({str(net)!r})")
    assert "torch" not in loaded


def test_missing_files_are_refused_before_torch_is_loaded() -> None:
    """Torch takes seconds to load, which somebody who has misspelt a name need not wait for."""
    net = "prototxt/D_deploy.prototxt"
    commands = [
        "train --solver none",
        "train --solver prototxt/solver_A.prototxt --weights none",
        f"test --model {net} --weights none",
        f"time --model {net} --weights none",
        f"extract-features none {net} fc7 fc7_lmdb 1 lmdb",
    ]
    loaded = loaded_after(
        "from caffecompat.cli.main import main\n"
        f"for command in {commands}: assert main(command.split()) == 1"
    )
    assert "torch" not in loaded


def test_public_names_are_what_they_say() -> None:
    import caffecompat

    assert len(set(caffecompat.__all__)) == len(caffecompat.__all__)
    for name in caffecompat.__all__:
        assert getattr(caffecompat, name) is not None
    assert set(caffecompat.__all__) <= set(dir(caffecompat))
    with pytest.raises(AttributeError, match="no attribute 'Nett'"):
        _ = caffecompat.Nett


def test_no_test_imports_from_another_test() -> None:
    """What several tests need stands in a module beside them, or in a conftest.py."""
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name in imports(ast.parse(path.read_text()), module_level_only=False)
        if re.match(r"tests\.(?:\w+\.)*test_\w+\.", name)
    ]
    assert not wrong, "\n".join(wrong)


def test_folders_are_small() -> None:
    """With more files a folder gets packages by subject."""
    counts: dict[str, int] = {}
    for tree in ("caffecompat", "tests", "tools"):
        for path in (ROOT / tree).rglob("*.py"):
            if path.name != "__init__.py":
                folder = path.parent.relative_to(ROOT).as_posix()
                counts[folder] = counts.get(folder, 0) + 1
    large = {folder: count for folder, count in counts.items() if count > MOST_FILES}
    assert large.keys() == CATALOGUES, large
