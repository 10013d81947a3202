"""The design's rules that can be read from the source: layers, docstrings, sizes, purity."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "funcreg"

# The modules in their order: each imports only from those before it.
LAYERS = (
    "_compiling", "_functorch", "_checks", "_generators", "_jit", "_memory", "random", "tree", "losses", "labels",
    "penalties", "noise", "norm", "augment", "model", "transforms", "optim", "constraints", "sharpness", "averaging",
    "adversarial", "checkpoint", "train", "sweep", "uncertainty", "distributed", "testing",
)  # fmt: skip
OUTSIDE = {"torch", "optree", "safetensors", "tqdm", "hypothesis"}  # what funcreg needs, beside the standard library
LAZY = {"tqdm", "hypothesis"}  # imported where it is used, since it may be absent
FILES = sorted(LIBRARY.rglob("*.py"))
# Global random functions, global state, modes, and writes into an argument.
FORBIDDEN = {
    r"\btorch\.(rand|randn|randint|randperm|normal|bernoulli|multinomial)(_like)?\(": "draw from a key: fr.random",
    r"\btorch\.(manual_seed|seed|set_rng_state|set_default_dtype|set_grad_enabled)\(": "leave global state alone",
    r"\.backward\(": "use torch.func.grad",
    r"\.training\b": "mode is an argument",
    r"\.(uniform|normal|bernoulli|exponential|random)_\(": "draw from a key: fr.random",
    r"\.(?!requires_grad_\()[a-z][a-z_]*_\(": "return a new tensor",
    r"\b(TODO|FIXME|XXX)\b": "finish it",
    r"^\s*(import|from) (numpy|scipy|torchvision|matplotlib|sklearn)\b": "belongs to experiments or tests",
}
# file: (pattern, why)
ALLOWED = {
    "model/__init__.py": (r"torch\.manual_seed\(", "init runs a module's own initialisation under a forked generator"),
    "model/refused.py": (r"layer\.training\b", "a train() of the layer's own is tried on a copy"),
    "model/skeleton.py": (
        r"layer\.training\b|self\.training\b|x\.copy_\(result\)",
        "the layer is a copy of ours, in the mode that `train` asked for; a layer that works in place does here too",
    ),
    "model/keyed/distributions.py": (r"self\.copy_\(", "torch's clamp_, into a tensor of the forward's own"),
    "model/keyed/in_place.py": (r"detach\(\)\.copy_\(", "an assignment to .data, which a transform refuses"),
    "model/keyed/mode.py": (r"target\.copy_\(", "a draw in place, into a tensor of the forward's own"),
    "model/keyed/rehearsed.py": (r"target\.copy_\(", "a draw in place, into a tensor of the forward's own"),
    "model/rehearsal/noise.py": (r"layer\.training\b", "the layer is a copy of ours, whose mode is what is found out"),
    "model/rehearsal/snapshots.py": (r"tensor\.detach\(\)\.copy_\(", "a tensor of our copy's is put back"),
    "testing/modules.py": (r"layer\.training\b", "whether a check leaves the modes of a module alone"),
    "testing/closures.py": (
        r"layer\.training\b|tensor\.detach\(\)\.copy_\(",
        "a module under test is put in the other mode, and its values put back",
    ),
    "testing/surroundings.py": (r"torch\.cuda\.manual_seed_all\(", "which generators have no part in a result"),
    "noise/elements.py": (r"fresh\.ge_\(|mask\.mul_\(", "numbers that were just drawn, by a kernel"),
    "model/layers.py": (r"layer\.training\b", "the layer is a copy of ours, in the mode that `train` asked for"),
    "model/recurrent.py": (r"layer\.training\b", "the layer is a copy of ours, in the mode that `train` asked for"),
}


def layer_of(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return str(path.relative_to(LIBRARY))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[tuple[str, bool, bool]]:
    """(module, whether it is funcreg's own, whether it is imported at module level)."""
    package = path.relative_to(ROOT).parent.parts
    tree = parsed(path)
    top = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                yield each.name, each.name.split(".")[0] == "funcreg", node in top
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                yield node.module or "", (node.module or "").split(".")[0] == "funcreg", node in top
                continue
            base = package[: len(package) - node.level + 1]
            inner = (*base, *(node.module or "").split(".")) if node.module else base
            # `from . import a` names modules; `from .a import b` names what is in one.
            for each in node.names:
                yield ".".join((*inner, each.name) if len(inner) == 1 else inner), True, node in top


def public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not is_overload(node):
            yield node


def is_overload(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Whether it is a signature alone, for what stands below it."""
    return any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list)


def exported(path: Path) -> set[str]:
    """The public names of a module; of a file in a package, those that its `__init__` imports from it."""
    if path.parent == LIBRARY or path.name == "__init__.py":
        return {node.name for node in public(parsed(path))}
    return {
        each.name
        for node in parsed(path.parent / "__init__.py").body
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module == path.stem
        for each in node.names
    }


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_up_the_listing_only(path: Path) -> None:
    own = layer_of(path)
    if own == "__init__":
        return
    assert own in LAYERS, f"{own} is not in the design's listing"
    for module, is_own, _ in imports(path):
        if is_own:
            layer = module.split(".")[1]
            assert layer == own or LAYERS.index(layer) < LAYERS.index(own), f"{own} imports {module}, below it"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_four_dependencies_are_imported(path: Path) -> None:
    for module, is_own, at_top in imports(path):
        root = module.split(".")[0]
        assert is_own or root in OUTSIDE or root in sys.stdlib_module_names, module
        assert not (at_top and root in LAZY), f"{root} may be absent: import it where it is used"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_everything_public_is_documented(path: Path) -> None:
    tree = parsed(path)
    assert ast.get_docstring(tree), "a module without a docstring"
    shown = exported(path)
    for node in public(tree):
        text = ast.get_docstring(node)
        assert text, f"{node.name} has no docstring"
        if isinstance(node, ast.FunctionDef) and node.name in shown and not layer_of(path).startswith("_"):
            assert ">>>" in text or node.name in WITHOUT_EXAMPLE, f"{node.name} has no example"


# name: why its docstring has no doctest
WITHOUT_EXAMPLE = {
    "read_metadata": "save's example shows it",
    "wake_noise": "rehearse's example shows it",
    "noise_sleeps": "that of sleeps shows it",
    "plan": "rehearse's example shows it",
    "named": "that of fr.check shows it",
    "running_at": "what it is of is an error that a layer raised",
}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_functions_are_annotated(path: Path) -> None:
    for node in public(parsed(path)):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            assert node.returns is not None, node.name
            assert all(each.annotation for each in arguments), node.name


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_keys_are_keyword_only_and_have_no_default(path: Path) -> None:
    if layer_of(path) in ("random", "testing") or layer_of(path).startswith("_"):
        return  # whose functions are of a key, which comes first, or of functions that may take none
    for node in public(parsed(path)):
        if isinstance(node, ast.FunctionDef):
            defaults = dict(zip((each.arg for each in node.args.kwonlyargs), node.args.kw_defaults, strict=True))
            if "key" in defaults:
                assert defaults["key"] is None, f"{node.name} has a default key"
            # `model_members(model, key, K)` is the one exception.
            assert node.name == "model_members" or "key" not in {each.arg for each in node.args.args}, node.name


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, "make it a folder with the same import path"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_global_or_in_place(path: Path) -> None:
    pattern, _ = ALLOWED.get(name_of(path), (r"(?!)", ""))
    for number, line in enumerate(code_lines(path), start=1):
        for forbidden, instead in FORBIDDEN.items():
            if re.search(forbidden, line) and not re.search(pattern, line):
                pytest.fail(f"{name_of(path)}:{number}: {line.strip()} ({instead})")


def code_lines(path: Path) -> list[str]:
    """The lines of a file with docstrings blanked: examples may do what the library may not."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            expression = node.body[0]
            for number in range(expression.lineno - 1, expression.end_lineno or expression.lineno):
                lines[number] = ""
    return lines


def test_every_module_has_a_test_file() -> None:
    # What these two do is tested by their examples, and by all that takes a gradient or is compiled.
    modules = {layer_of(path) for path in FILES} - {"__init__", "_compiling", "_functorch"}
    missing = {name for name in modules if not (ROOT / "tests" / f"test_{name.lstrip('_')}.py").exists()}
    assert not missing


def test_the_top_level_is_four_folders_and_two_files() -> None:
    visible = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    generated = {"build", "dist", "results"}  # ignored by git
    assert visible - generated <= {"funcreg", "experiments", "tests", "notebooks", "pyproject.toml", "README.md"}


def test_the_public_names_are_listed_and_sorted() -> None:
    modules = [path for path in LIBRARY.glob("*.py") if not path.name.startswith("_")]
    for init in (*modules, *LIBRARY.rglob("__init__.py")):
        lists = [
            ast.literal_eval(node.value)
            for node in parsed(init).body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        ]
        assert len(lists) == 1, init
        assert lists[0] == sorted(set(lists[0])), init


def test_what_compiles_nothing_does_not_import_the_compiler() -> None:
    """It takes longer to import than torch."""
    program = """
import sys, torch, funcreg as fr
from torch import nn
key, model = fr.random.key(0), fr.from_module(lambda: nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)))
variables = model.init(key)
fr.uncertainty.mc_dropout(model, *variables, torch.ones(4, 2), key=key, samples=3)
optimizer = fr.optim.sgd(0.1)
def loss_fn(params, state, batch, *, key, hparams):
    return model.apply(params, state, batch, key=key, train=True)[0].mean(), (state, {})
first = fr.train.init(*variables, optimizer, key=key)
step, data = fr.train.make_step(loss_fn, optimizer), torch.ones(4, 2)
fr.train.fit(step, first, data, key=key, epochs=1, jit=False)
first = fr.train.init(*fr.model_members(model, key, 2), optimizer, key=key, members=2)
fr.train.fit(step, first, data, key=key, epochs=1, members=2, jit=False)
print(*sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "torch._dynamo" not in found.stdout.split()
