"""What is installed: every module and data file, nothing foreign at the top level, the names that scripts use."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import surgery

ROOT = Path(__file__).parent.parent
PUBLIC = {
    "AffineCertificate",
    "Graph",
    "Hierarchy",
    "LinearMap",
    "Linearized",
    "Plan",
    "Rewrite",
    "RuleSet",
    "__version__",
    "apply",
    "certify",
    "cluster",
    "correlate",
    "extract",
    "feature_distance",
    "linearize",
    "load",
    "load_graph",
    "load_model",
    "load_plan",
    "load_rules",
    "plan",
    "save_graph",
    "save_plan",
    "to_networkx",
    "trace",
}
SUBPACKAGES = {
    *("attack", "data", "graph", "hierarchy", "linear", "models", "recipe", "report", "rewrite", "run"),
    *("stages", "store", "train"),
}


def test_the_public_names_are_these_and_all_resolve():
    assert set(dir(surgery)) == PUBLIC | SUBPACKAGES | {"plot"}
    assert all(getattr(surgery, name) is not None for name in PUBLIC)


def test_every_subpackage_is_an_attribute_after_importing_surgery_alone():
    folders = {path.parent.name for path in (ROOT / "surgery").glob("*/__init__.py")}
    assert folders == SUBPACKAGES
    code = f"import surgery; print([getattr(surgery, name).__name__ for name in {sorted(SUBPACKAGES)}])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str([f"surgery.{name}" for name in sorted(SUBPACKAGES)])


@pytest.mark.parametrize("name", sorted(SUBPACKAGES))
def test_a_subpackage_lists_its_interface_and_no_modules(name):
    package = getattr(surgery, name)
    tree = ast.parse((ROOT / "surgery" / name / "__init__.py").read_text())
    imported = {item.asname for node in tree.body if isinstance(node, ast.ImportFrom) for item in node.names}
    assigned = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}
    assert set(dir(package)) == {item for item in imported | assigned if item and not item.startswith("_")}
    assert not any(isinstance(getattr(package, item), ModuleType) for item in dir(package))


def test_an_attack_is_made_after_importing_surgery_alone():
    code = "import surgery; print(surgery.attack.pgd(epsilon='8/255', steps=2, step_size=0.01).steps)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "2"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'linearise'"):
        surgery.linearise  # noqa: B018


def test_importing_surgery_imports_nothing_heavy():
    code = "import surgery, sys; print([m for m in ('torch', 'numpy', 'networkx', 'pydantic') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names of the files in a wheel built from a clean copy of the sources."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(target)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    [built] = target.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_the_wheel_holds_every_module_ruleset_and_recipe(wheel):
    kept = [*ROOT.glob("surgery/**/*.py"), *ROOT.glob("surgery/**/*.toml"), ROOT / "surgery" / "py.typed"]
    wanted = {str(path.relative_to(ROOT)) for path in kept}
    wanted |= {f"surgery_cli/{path.relative_to(ROOT / 'cli')}" for path in ROOT.glob("cli/**/*.py")}
    wanted |= {f"surgery/recipe/shipped/{path.name}" for path in ROOT.glob("recipes/*.*")}
    assert len(wanted) > 50
    assert wanted <= set(wheel)


def test_the_wheel_puts_only_two_packages_at_the_top_level(wheel):
    top = {name.split("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"surgery", "surgery_cli"}


def test_what_is_cited_has_the_version_that_is_installed():
    assert f"\nversion: {surgery.__version__}\n" in (ROOT / "CITATION.cff").read_text()
