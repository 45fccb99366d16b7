"""The house rules of hesslab, read from its source: who imports whom, how long things are, what is public."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ROOT / "hesslab"

# A room, the rooms it may stand on beside `operators`, and its public names.
CORE = {
    "operators": (set(), {"Operator", "as_operator", "to_dense", "counted", "generator"}),
    "matrices": (
        set(),
        {"with_spectrum", "spiked", "wishart", "goe", "hilbert", "marchenko_pastur_pdf", "semicircle_pdf"},
    ),
    "objectives": (
        set(),
        {
            *(
                "Objective",
                "quadratic",
                "rosenbrock",
                "saddle",
                "peano",
                "scalar_factorization",
                "deep_linear",
            ),
            *("least_squares", "logistic_regression", "softmax_regression"),
        },
    ),
    "dynamics": (
        set(),
        {
            *("gd", "heavy_ball", "nesterov", "rmsprop", "adam", "newton", "run", "Trajectory"),
            *("stability_threshold", "iteration_matrix"),
        },
    ),
    "lanczos": (
        {"krylov", "hunt"},
        {"tridiagonalize", "eigsh", "power_iteration", "EigenPairs", "Tridiagonal"},
    ),
    "trace": ({"probes"}, {"hutchinson", "hutchpp", "xtrace", "diagonal", "frobenius", "Estimate"}),
    "density": ({"lanczos", "trace"}, {"slq", "SpectralMeasure"}),
    "risk": ({"safety", "losses", "batches", "ranks"}, {"EmpiricalRisk", "mlp"}),
    "curvature": (
        {"risk", "products", "losses", "lockstep", "ranks"},
        {
            *("hessian", "ggn", "fisher", "empirical_fisher", "gradient_covariance"),
            *("preconditioned", "blocks"),
        },
    ),
}
OTHER = {
    "safety": (set(), {"twice_differentiable"}),
    "products": ({"risk", "safety", "losses", "memory", "graphs", "ranks"}, None),
    "kfac": ({"risk", "losses", "ranks"}, {"kfac"}),
    "stability": (
        {"risk", "curvature", "lanczos", "dynamics"},
        {"Tracker", "effective_sharpness", "Sharpness"},
    ),
    "audit": (
        {"risk", "curvature", "lanczos", "trace", "density", "stability", "critical", "parts", "report"},
        {"audit", "Audit", "Layer"},
    ),
    "landscape": (
        {"risk", "profiles", "matching", "batches", "ranks"},
        {"slice_1d", "slice_2d", "barrier", "bezier_path", "match_permutation"},
    ),
    "data": (set(), {"digits", "mnist1d", "two_moons"}),
    "course": ({"checks"}, {"start", "claim", "predict", "ticket"}),
    "plots": (set(), None),
    "__main__": ({"audit", "plots"}, None),
    "__init__": (set(), set()),
}
# Inner rooms: what a room of the plan stands on, and nobody else needs to open.
INNER = {
    "krylov": (set(), None),
    "hunt": ({"krylov"}, None),
    "probes": (set(), None),
    "lockstep": (set(), None),
    "losses": (set(), None),
    "memory": ({"risk", "batches"}, None),
    "batches": (set(), None),
    "graphs": (set(), None),
    "ranks": (set(), None),
    "critical": ({"risk"}, {"CriticalRate", "critical_rate"}),
    "parts": ({"risk", "curvature", "trace", "ranks"}, None),
    "report": (set(), None),
    "profiles": ({"risk"}, None),
    "matching": ({"risk", "ranks"}, None),
}
ROOMS = {**CORE, **OTHER, **INNER}
WITH_TORCH = {
    "risk",
    "safety",
    "products",
    "curvature",
    "kfac",
    "stability",
    "audit",
    "landscape",
    "course",
    "losses",
    "memory",
    "critical",
    "parts",
    "profiles",
    "matching",
    "batches",
    "graphs",
    "ranks",
}
SMALL = {"matrices", "objectives", "dynamics", "lanczos", "trace", "density", "operators", "data", "plots"}

FILES = sorted(HOUSE.rglob("*.py"))


def tree(path):
    return ast.parse(path.read_text(encoding="utf8"))


def imports(path):
    """Every module that a file imports, anywhere in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write hesslab.room"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_used(path):
    return {name.split(".")[1] for name in imports(path) if name.startswith("hesslab.")}


def functions(path):
    return [n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def body_length(function):
    """Lines of a function's body, without its docstring and without the functions defined inside it."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def public_definitions(path):
    """Public functions and classes that a file defines at its top level, with their nodes."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {n.name: n for n in tree(path).body if isinstance(n, kinds) and not n.name.startswith("_")}


def named(path):
    return str(path.relative_to(HOUSE))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_every_file_is_short(path):
    assert len(path.read_text(encoding="utf8").splitlines()) <= 350


def test_the_core_is_read_in_an_afternoon():
    core = [HOUSE / f"{room}.py" for room in CORE]
    assert sum(len(p.read_text(encoding="utf8").splitlines()) for p in core if p.exists()) <= 3000


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_function_is_long(path):
    long = {f.name: body_length(f) for f in functions(path) if body_length(f) > 45}
    assert not long


def test_the_median_function_is_short():
    assert statistics.median(body_length(f) for path in FILES for f in functions(path)) <= 8


@pytest.mark.parametrize("path", FILES, ids=named)
def test_arrows_go_down_only(path):
    used = rooms_used(path)
    room = named(path).removesuffix(".py").replace("\\", "/")
    if room.startswith("checks/laws"):
        allowed = {"checks", "matrices", "objectives", "operators"}
        allowed |= {"risk"} if room.endswith("curvature") else set()
    elif room.startswith("checks"):
        allowed = set(ROOMS) | {"checks"}
        assert "plots" not in used, "a check draws nothing"
    else:
        assert room in ROOMS, f"{room} is not a room of the house: add it to the plan first"
        allowed = ROOMS[room][0] | {"operators"}
    assert used - {room} <= allowed


@pytest.mark.parametrize("path", FILES, ids=named)
def test_torch_and_matplotlib_stay_in_their_rooms(path):
    heads = {name.split(".")[0] for name in imports(path)}
    room = named(path).removesuffix(".py").replace("\\", "/")
    if room.startswith("checks/laws"):
        torch_allowed = room.endswith("/curvature")
    else:
        torch_allowed = room in WITH_TORCH or room.startswith("checks/lesson_")
    assert torch_allowed or "torch" not in heads
    assert room == "plots" or "matplotlib" not in heads


def test_numpy_rooms_work_without_loading_torch_or_matplotlib():
    rooms = sorted(r for r in SMALL - {"plots"} if (HOUSE / f"{r}.py").exists())
    lines = [*(f"import hesslab.{room}" for room in rooms), "import sys"]
    lines.append("assert not {'torch', 'matplotlib'} & set(sys.modules), 'loaded something heavy'")
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    "room", sorted(r for r in ROOMS if (HOUSE / f"{r}.py").exists() and ROOMS[r][1] is not None)
)
def test_public_names_are_those_of_the_plan(room):
    constants = {"Array", "Rule"}  # names of types, for annotations
    assert set(public_definitions(HOUSE / f"{room}.py")) - constants == ROOMS[room][1]


@pytest.mark.parametrize("path", FILES, ids=named)
def test_public_functions_show_an_example(path):
    room = named(path).removesuffix(".py")
    if room not in CORE:
        pytest.skip("only the core is bound to examples")
    for name, node in public_definitions(path).items():
        if isinstance(node, ast.FunctionDef):
            assert ">>>" in (ast.get_docstring(node) or ""), f"{room}.{name} shows no example that runs"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_randomness_is_a_required_keyword(path):
    if named(path).startswith("checks") or named(path).removesuffix(".py") in INNER:
        pytest.skip("checks default to 0; inner rooms are handed a generator")
    for function in public_definitions(path).values():
        if isinstance(function, ast.ClassDef) or function.name == "generator":  # which makes one of `rng`
            continue
        assert "rng" not in [a.arg for a in function.args.args], f"{function.name} takes rng by position"
        for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
            exempt = function.name in ("fisher", "kfac")  # these draw only where they are asked to sample
            assert argument.arg != "rng" or default is None or exempt, f"{function.name} gives rng a default"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_nothing_touches_a_global_seed(path):
    source = path.read_text(encoding="utf8")
    for call in (
        "torch.manual_seed(",
        "random.seed(",
        "np.random.normal",
        "np.random.rand",
        "torch.randn(",
        "torch.rand(",
    ):
        assert call not in source, f"{path} calls {call}"
