# SPDX-License-Identifier: BSD-2-Clause
"""The house: imports run one way, and the tool starts without what it does not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ktlsctl"

#: Rooms from top to bottom; a module imports only from its own room's helpers or from rooms below.
ROOMS = (
    ("__main__",),
    ("cli",),
    ("commands",),
    ("render", "completions", "schema", "selftest", "configure", "screen"),
    ("top",),
    ("probe", "votes", "policy", "endangered", "snippets", "libraries", "sessions", "stats", "summary"),
    ("advisories", "linux", "freebsd", "openssl"),
    ("linux_findings", "freebsd_findings", "session", "trials", "opensslcnf_edit", "freebsd_sessions"),
    ("prepared",),
    ("witness", "forks"),
    ("stage",),
    ("evidence", "datapath"),
    ("libsslprobe",),
    ("watcher",),
    ("libssl",),
    ("libsslfile",),
    ("facts",),
    ("sysctl",),
    ("host",),
    ("child", "atomic"),
    ("servant",),
    ("scenarios",),
    ("codec",),
    ("freebsdkernel",),
    ("ciphers", "sessionfacts", "changes"),
    ("freebsdabi",),
    ("model",),
    ("__init__",),
)
LEVEL = {name: level for level, names in enumerate(ROOMS) for name in names}


def _room(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _project_imports(module: Path) -> set[str]:
    """First path component below ktlsctl of everything imported, at any depth of the file."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{module}: relative import")
        if isinstance(node, ast.ImportFrom) and node.module == "ktlsctl":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ktlsctl."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("ktlsctl.")}
    return {"__init__" if name.startswith("__") else name for name in found} - {"_libssl"}


MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name not in ("_libssl.py", "libssl_build.py", "build.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_rooms_below_it(module: Path) -> None:
    room = _room(module)
    assert room in LEVEL, f"{room} has no place in the house: give it one in ROOMS"
    for imported in _project_imports(module):
        allowed = imported == room or LEVEL[imported] > LEVEL[room]
        assert allowed, f"{room} imports {imported}, which does not lie below it"


def test_model_imports_nothing_of_the_project() -> None:
    assert _project_imports(PACKAGE / "model.py") == set()


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_file_says_its_licence_and_what_belongs_in_it(module: Path) -> None:
    text = module.read_text()
    assert text.startswith("# SPDX-License-Identifier: BSD-2-Clause\n")
    assert ast.get_docstring(ast.parse(text))


def _loaded(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_help_and_version_load_nothing_but_click_and_the_command_line() -> None:
    ours = {m for m in _loaded("import ktlsctl.cli") if m.startswith("ktlsctl")}
    assert {m for m in ours if not m.startswith("ktlsctl.commands")} == {"ktlsctl", "ktlsctl.cli"}


def test_check_loads_no_tls_library_into_the_parent() -> None:
    code = (
        "from ktlsctl import probe, linux, freebsd\n"
        "from ktlsctl.host import LiveHost\n"
        "probe.check(LiveHost(), probe.Options())"
    )
    assert not _loaded(code) & {"ssl", "_ssl", "_hashlib", "cffi", "OpenSSL", "cryptography"}
