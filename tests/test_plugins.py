"""Extensions of users: found, checked and digested without being imported."""

import sys
import types

import pytest

from surgery.errors import InputError
from surgery.plugins import (
    ArgumentError,
    _registered,
    check_arguments,
    constant_of,
    is_reference,
    load,
    locate,
    reference_of,
    registered,
    signature_of,
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in the current folder that says when it is imported."""
    folder = tmp_path / "extras_for_tests"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "nets.py").write_text(
        "def make(num_classes, *, width=8):\n    return width\n\n"
        "class Made:\n    def __init__(self, size, depth=2, **more):\n        self.size = size\n\n"
        "class Inherits(Made):\n    pass\n\nalias = make\n"
    )
    monkeypatch.chdir(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("extras_for_tests")]:
        del sys.modules[name]


def test_references_are_told_from_names_and_paths():
    assert is_reference("mypackage.nets:make")
    assert not any(map(is_reference, ("resnet18", "nets:", ":make", "a/b:c", "C:\\nets", "a.b.c", "a:b:c", "1a:b")))


def test_locating_reads_the_signature_and_imports_nothing(package):
    found = locate("extras_for_tests.nets:make")
    assert found.path == package / "nets.py"
    assert found.signature is not None
    assert (found.signature.required, found.signature.optional) == (("num_classes",), ("width",))
    assert not any(name.startswith("extras_for_tests") for name in sys.modules)


def test_the_signature_of_a_class_is_that_of_its_constructor(package):
    found = locate("extras_for_tests.nets:Made").signature
    assert found is not None
    assert (found.required, found.optional, found.open_ended) == (("size",), ("depth",), True)


def test_a_signature_that_the_source_does_not_show_is_unknown_and_checks_nothing(package):
    for name in ("Inherits", "alias"):
        found = locate(f"extras_for_tests.nets:{name}").signature
        assert found is None
        check_arguments("it", found, ["anything"])


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no_such_package_here.nets:make", "no module 'no_such_package_here' was found"),
        ("extras_for_tests.missing:make", "no module 'extras_for_tests.missing' was found"),
        ("extras_for_tests.nets.deeper:make", "'extras_for_tests.nets' is a module, not a package"),
        ("extras_for_tests.nets:mak", "defines no 'mak'"),
        ("sys:exit", "has no file"),
        ("not a reference", "expected package.module:name"),
    ],
)
def test_what_cannot_be_found_is_an_input_error(package, reference, message):
    with pytest.raises(InputError, match=message):
        locate(reference)


def test_folders_without_init_files_are_packages_too(tmp_path, monkeypatch):
    (tmp_path / "outer_for_tests" / "inner" / "most").mkdir(parents=True)
    (tmp_path / "outer_for_tests" / "inner" / "most" / "nets.py").write_text("def make():\n    return 7\n")
    monkeypatch.chdir(tmp_path)
    assert locate("outer_for_tests.inner.most.nets:make").path == tmp_path / "outer_for_tests/inner/most/nets.py"
    assert not any(name.startswith("outer_for_tests") for name in sys.modules)
    with pytest.raises(InputError, match=r"no module 'outer_for_tests\.inner\.other' was found"):
        locate("outer_for_tests.inner.other:make")
    with pytest.raises(InputError, match=r"no module 'outer_for_tests\.inner\.most' was found|has no file"):
        locate("outer_for_tests.inner.most:make")
    assert load("outer_for_tests.inner.most.nets:make")() == 7


def test_a_syntax_error_is_located(package):
    (package / "broken.py").write_text("x = 1\ndef f(:\n")
    with pytest.raises(InputError, match=r"broken\.py:2"):
        locate("extras_for_tests.broken:f")


def test_the_digest_changes_with_the_source(package):
    before = locate("extras_for_tests.nets:make").digest
    (package / "nets.py").write_text((package / "nets.py").read_text() + "\n# changed\n")
    assert locate("extras_for_tests.nets:make").digest != before


def test_loading_imports_and_says_what_importing_raised(package):
    with pytest.raises(InputError, match="RuntimeError: imported"):
        load("extras_for_tests.nets:make")
    (package / "__init__.py").write_text("")
    assert load("extras_for_tests.nets:make")(3, width=5) == 5


def test_the_search_path_is_left_as_it_was(package):
    (package / "__init__.py").write_text("")
    before = list(sys.path)
    load("extras_for_tests.nets:make")
    assert sys.path == before


def test_arguments_are_checked_against_the_signature(package):
    found = locate("extras_for_tests.nets:make").signature
    check_arguments("make", found, ["width"], provided=["num_classes"])
    with pytest.raises(ArgumentError, match="unknown argument 'widht'") as caught:
        check_arguments("make", found, ["widht"], provided=["num_classes"])
    assert (caught.value.key, caught.value.hint) == ("widht", "did you mean 'width'?")
    with pytest.raises(ArgumentError, match="the argument 'num_classes' is missing"):
        check_arguments("make", found, ["width"])


def test_the_signature_of_an_imported_function_is_the_same(package):
    (package / "__init__.py").write_text("")
    assert signature_of(load("extras_for_tests.nets:make")) == locate("extras_for_tests.nets:make").signature


def test_names_of_entry_points_lead_to_references(monkeypatch):
    monkeypatch.setattr("surgery.plugins._registered", lambda: {"surgery.attacks": {"mine": "package.module:mine"}})
    assert registered("surgery.attacks") == {"mine": "package.module:mine"}
    assert reference_of("mine", "surgery.attacks") == "package.module:mine"
    assert reference_of("other.module:it", "surgery.attacks") == "other.module:it"
    assert reference_of("pgd", "surgery.attacks") is None


def test_entry_points_are_those_of_installed_packages(tmp_path, monkeypatch):
    installed = tmp_path / "mine-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[surgery.datasets]\nours = package.data:load\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("surgery.plugins._registered", _registered.__wrapped__)
    assert registered("surgery.datasets") == {"ours": "package.data:load"}
    assert registered("surgery.stages") == {}


def test_what_a_module_prints_goes_to_stderr(package, capsys):
    (package / "__init__.py").write_text("print('hello')\n")
    load("extras_for_tests.nets:make")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "hello\n")


def test_positional_only_parameters_are_no_keywords(package):
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text(
        "def free(a=1, /, b=2):\n    pass\n\ndef bound(size, /, width):\n    pass\n\n"
        "class Net:\n    def __init__(self, /, width, depth=1):\n        pass\n"
    )
    for name in ("free", "bound", "Net"):
        reference = f"extras_for_tests.nets:{name}"
        assert locate(reference).signature == signature_of(load(reference))
    check_arguments("free", locate("extras_for_tests.nets:free").signature, ["b"])
    with pytest.raises(ArgumentError, match="free: unknown argument 'a'"):
        check_arguments("free", locate("extras_for_tests.nets:free").signature, ["a"])
    with pytest.raises(ArgumentError, match="bound: the parameter 'size' is positional-only"):
        check_arguments("bound", locate("extras_for_tests.nets:bound").signature, ["width"])
    check_arguments("Net", locate("extras_for_tests.nets:Net").signature, ["width"])


def test_functions_of_a_notebook_are_loaded_and_cannot_be_located(monkeypatch):
    main = types.ModuleType("__main__")
    vars(main)["make"] = make = object()
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert load("__main__:make") is make
    with pytest.raises(InputError, match="__main__ has no 'other'"):
        load("__main__:other")
    with pytest.raises(InputError, match=r"a notebook or a prompt has no file.*\n.*move it to a file"):
        locate("__main__:make")


def test_functions_of_a_script_are_located(tmp_path, monkeypatch):
    script, main = tmp_path / "script.py", types.ModuleType("__main__")
    script.write_text("def make(width=1):\n    pass\n")
    vars(main)["__file__"] = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    found = locate("__main__:make")
    assert (found.path, found.signature.optional) == (script, ("width",))


def test_constants_of_a_class_are_read_from_its_body(package):
    (package / "kinds.py").write_text(
        "class Kind:\n    gathers: ClassVar[bool] = True\n    version = 3\n    files = make()\n    bare: int\n"
        "class Inherits(Kind):\n    pass\n"
    )
    found = {name: constant_of("extras_for_tests.kinds:Kind", name) for name in ("gathers", "version", "files", "bare")}
    assert found == {"gathers": True, "version": 3, "files": None, "bare": None}
    assert constant_of("extras_for_tests.kinds:Inherits", "gathers") is None
    assert "extras_for_tests" not in sys.modules
