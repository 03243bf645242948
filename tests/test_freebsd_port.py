# SPDX-License-Identifier: BSD-2-Clause
"""FreeBSD's own way of being run: the periodic script, the rc script, the port's skeleton, the workflow on real
machines.  The port is held to portlint's main rules, written here anew: portlint itself wants a ports tree."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import shutil
import stat
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ktlsctl import probe
from ktlsctl.host import CapturedHost
from ktlsctl.render import jsondoc
from tests import elsewhere, freebsd_hosts

ROOT = Path(__file__).parent.parent
FREEBSD = ROOT / "freebsd"
PORT = FREEBSD / "port" / "security" / "ktlsctl"
PERIODIC = FREEBSD / "periodic" / "490.status-ktls"
RC = PORT / "files" / "ktlsctl.in"
WORKFLOW = ROOT / ".github" / "workflows" / "freebsd.yml"
SCRIPTS = (PERIODIC, RC, FREEBSD / "test")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


# --- scripts ---


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_a_script_is_plain_sh(script: Path) -> None:
    done = subprocess.run(["shellcheck", "-s", "sh", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert subprocess.run(["dash", "-n", script], check=False).returncode == 0


#: What FreeBSD's base system has not, or not with these options.
GNU = re.compile(
    r"\b(?:readlink -f|sed -i (?!'')|sed -r|grep -P|stat -c|date -d|cp -a|ln -T|mktemp --|sort -V|xargs -r|du -b|seq -w"
    r"|timeout --|sha256sum|nproc|systemctl|apt-get|gmake|gsed|ggrep|gawk|/bin/bash|/usr/bin/env bash)"
)


@pytest.mark.parametrize("path", [*SCRIPTS, PORT / "Makefile", WORKFLOW], ids=lambda p: p.name)
def test_no_tool_of_gnu_or_linux_is_called(path: Path) -> None:
    assert GNU.findall(path.read_text()) == []


def test_the_search_for_gnu_finds_gnu() -> None:
    assert len(GNU.findall("sed -i s/a/b/ x; readlink -f y; nproc; stat -c %s z; sed -i '' s/a/b/ x")) == 4


def test_no_command_that_a_report_advises_on_freebsd_is_gnus() -> None:
    advised = set()
    for kernel in freebsd_hosts.HOSTS.values():
        host = CapturedHost.parse(freebsd_hosts.document(kernel).encode())
        report = probe.check(host, probe.Options())
        advised |= {r.command for check in report.checks for r in check.remedy if r.command}
    assert len(advised) > 8
    assert [command for command in advised if GNU.search(command)] == []
    known = {"sysctl", "echo", "sed", "sysrc", "kldload", "ifconfig", "make", "service", "freebsd-update", "dmesg"}
    assert {command.split()[0] for command in advised} <= known | {"ktlsctl"}


def test_commands_that_the_tool_runs_on_freebsd_are_in_its_base_system() -> None:
    called = set()
    for name in ("kld", "ifcaps", "conftxt", "lighttpd"):
        tree = ast.parse((ROOT / "ktlsctl" / "facts" / f"{name}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "run":
                first = node.args[0]
                called.add(first.value if isinstance(first, ast.Constant) else "?")
    assert called == {"kldload", "sh", "lighttpd"}


def daily(tmp_path: Path, status: int, **knobs: str) -> tuple[int, str]:
    """The periodic script with a ktlsctl that ends with `status`."""
    tool = tmp_path / "ktlsctl"
    tool.write_text(f'#!/bin/sh\necho "said: $*"\nexit {status}\n')
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    environment = {"PATH": os.environ["PATH"], "daily_status_ktls_program": str(tool), **knobs}
    done = subprocess.run(["dash", PERIODIC], capture_output=True, text=True, check=False, env=environment)
    assert done.stderr == ""
    return done.returncode, done.stdout


ON = {"daily_status_ktls_enable": "YES"}


@pytest.mark.parametrize(("status", "code"), [(0, 0), (1, 1), (2, 3), (3, 3), (127, 3)])
def test_periodic_gets_the_code_that_its_manual_has_for_it(tmp_path: Path, status: int, code: int) -> None:
    said = daily(tmp_path, status, **ON)
    assert said == (code, "\nKernel TLS:\nsaid: check --color never --quiet\n")


def test_periodic_is_off_unless_switched_on(tmp_path: Path) -> None:
    assert daily(tmp_path, 2) == (0, "")
    assert daily(tmp_path, 2, daily_status_ktls_enable="no") == (0, "")


def test_periodic_takes_flags_and_says_when_the_tool_is_missing(tmp_path: Path) -> None:
    assert "check --color never --format nagios" in daily(
        tmp_path, 0, **ON, daily_status_ktls_flags="--format nagios"
    )[1]  # fmt: skip
    code, said = daily(tmp_path, 0, **(ON | {"daily_status_ktls_program": "/nonexistent"}))
    assert code == 2
    assert "not installed" in said


def test_the_periodic_script_is_executable_and_its_flags_are_the_tools() -> None:
    assert os.access(PERIODIC, os.X_OK)
    done = subprocess.run(
        [sys.executable, "-m", "ktlsctl", "check", "--help"], capture_output=True, text=True, check=True
    )
    for flag in ("--quiet", "--color"):
        assert flag in done.stdout


RC_SUBR = """
load_rc_config() { :; }
checkyesno() { eval "case \\$$1 in [Yy][Ee][Ss]) return 0;; *) return 1;; esac"; }
run_rc_command() {
    case $1 in
    start) if checkyesno "$rcvar"; then $start_cmd; fi ;;
    status) $status_cmd ;;
    *) eval "\\${${1}_cmd}" ;;
    esac
}
"""


def served(tmp_path: Path, command: str, **knobs: str) -> tuple[int, str, str]:
    """The rc script under a small rc.subr; what it printed, and what it logged."""
    (tmp_path / "rc.subr").write_text(RC_SUBR)
    (tmp_path / "logger").write_text(f"#!/bin/sh\ncat > '{tmp_path}/log'\n")
    (tmp_path / "logger").chmod(0o755)
    (tmp_path / "tool").write_text('#!/bin/sh\necho "said: $*"\nexit 1\n')
    (tmp_path / "tool").chmod(0o755)
    text = RC.read_text().replace("/etc/rc.subr", f"{tmp_path}/rc.subr").replace("%%PREFIX%%", "/usr/local")
    (tmp_path / "script").write_text(text)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ktlsctl_program": f"{tmp_path}/tool", **knobs}
    done = subprocess.run(
        ["dash", tmp_path / "script", command], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stderr == ""
    log = tmp_path / "log"
    return done.returncode, done.stdout, log.read_text() if log.exists() else ""


def test_the_rc_script_logs_once_where_it_is_enabled(tmp_path: Path) -> None:
    assert served(tmp_path, "start", ktlsctl_enable="YES") == (0, "", "said: check --color never --quiet\n")


def test_the_rc_script_does_nothing_unless_enabled(tmp_path: Path) -> None:
    assert served(tmp_path, "start") == (0, "", "")
    assert served(tmp_path, "stop") == (0, "", "")


def test_the_rc_scripts_status_is_the_tools_own(tmp_path: Path) -> None:
    assert served(tmp_path, "status", ktlsctl_flags="--json") == (1, "said: check --color never --json\n", "")


def test_the_rc_script_says_where_it_stands_in_the_order_and_by_which_variable() -> None:
    text = RC.read_text()
    assert re.search(r"^# PROVIDE: ktlsctl$", text, re.MULTILINE)
    assert re.search(r"^# REQUIRE: ", text, re.MULTILINE)
    assert 'rcvar="ktlsctl_enable"' in text
    assert "ktlsctl_enable:=NO" in text


def test_nothing_is_installed_outside_usr_local() -> None:
    for path in (PERIODIC, RC):
        named = set(re.findall(r"(?<![\w%}])/(?:usr|opt|var|home|root|bin|sbin)/[\w./-]*", path.read_text())) - {
            "/bin/sh"
        }
        assert all(name.startswith("/usr/local/") for name in named), named


# --- the port ---

MAKEFILE = (PORT / "Makefile").read_text()

#: The Porter's Handbook, "Order of Variables in Port Makefiles", as far as this port has them; a blank between groups.
#: WWW follows when the project has a page of its own: there is none to name yet.
ORDER = (
    ("PORTNAME", "DISTVERSION", "CATEGORIES", "MASTER_SITES"),
    ("MAINTAINER", "COMMENT"),
    ("LICENSE", "LICENSE_FILE"),
    ("BUILD_DEPENDS", "RUN_DEPENDS"),
    ("USES", "USE_PYTHON", "USE_RC_SUBR"),
)


def variables() -> dict[str, str]:
    joined = MAKEFILE.replace("\\\n", " ")
    return {m[1]: " ".join(m[2].split()) for m in re.finditer(r"^(\w+)=\t+(.*)$", joined, re.MULTILINE)}


def test_variables_stand_in_the_handbooks_order_and_groups() -> None:
    head = MAKEFILE.partition("\npost-install:")[0].replace("\\\n", " ")
    groups = tuple(tuple(re.findall(r"^(\w+)=", group, re.MULTILINE)) for group in head.split("\n\n") if group.strip())
    assert groups == ORDER


def test_the_makefile_is_tabbed_and_ends_as_every_port_does() -> None:
    assert MAKEFILE.endswith("\n.include <bsd.port.mk>\n")
    for line in MAKEFILE.split("\n"):
        assert line == line.rstrip(), f"trailing blanks: {line!r}"
        assert not line.startswith(" "), f"indented with blanks: {line!r}"
        assert not re.match(r"\w+= ", line), f"a blank behind '=': {line!r}"
        assert len(line.expandtabs(8)) <= 100, line
    assert "\n\n\n" not in MAKEFILE


def test_the_comment_is_one_short_phrase() -> None:
    comment = variables()["COMMENT"]
    assert len(comment) <= 70
    assert comment[0].isupper()
    assert not comment.endswith(".")
    assert comment.split()[0].lower() not in ("a", "an", "the", "ktlsctl")


def test_commands_of_the_makefile_go_through_its_macros() -> None:
    for line in MAKEFILE.partition("\npost-install:\n")[2].replace("\\\n", " ").split("\n"):
        if line.startswith("\t"):
            assert re.match(r"\t@?\$\{(MKDIR|INSTALL_\w+|STRIP_CMD)\}", line), line
    assert "/usr/local" not in MAKEFILE
    assert "${PREFIX}" in MAKEFILE
    assert re.findall(r"\$\{INSTALL_\w+\} [^\n]*(?<!\\)$", MAKEFILE, re.MULTILINE), "installs something"
    assert all("${STAGEDIR}" in part for part in re.findall(r"\S*\$\{PREFIX\}\S*", MAKEFILE))


def test_the_compiled_module_is_stripped_where_it_is_staged() -> None:
    """setuptools leaves its debug information in; the ports framework's own check complains of that."""
    (stripped,) = re.findall(r"\$\{STRIP_CMD\} \$\{STAGEDIR\}\$\{PYTHON_SITELIBDIR\}/(\S+)", MAKEFILE)
    module = stripped.removesuffix(".abi3.so").replace("/", ".")
    assert f'set_source(\n    "{module}",' in (ROOT / "ktlsctl" / "datapath" / "build.py").read_text()


def test_version_and_dependencies_are_the_projects() -> None:
    assert variables()["DISTVERSION"] == _version()
    asked = {re.split(r"[<>=~!; \[]", d)[0].lower().removeprefix("py"): d for d in PROJECT["dependencies"]}
    given = dict(re.findall(r"\$\{PYTHON_PKGNAMEPREFIX\}([\w-]+)>=?([\d.]+):", variables()["RUN_DEPENDS"]))
    assert set(given) == set(asked)
    for name, minimum in given.items():
        assert f">={minimum}" in asked[name].replace(" ", "")
    assert f"python:{PROJECT['requires-python'].removeprefix('>=')}+" in variables()["USES"].split()


def _version() -> str:
    import ktlsctl

    return ktlsctl.__version__


def test_every_dependency_names_the_flavour_of_its_python() -> None:
    for name in ("BUILD_DEPENDS", "RUN_DEPENDS"):
        for word in variables()[name].split():
            assert re.fullmatch(r"\$\{PYTHON_PKGNAMEPREFIX\}[\w-]+>=?[\d.]+:[\w-]+/py-[\w-]+@\$\{PY_FLAVOR\}", word), (
                word
            )
        words = variables()[name].split()
        assert words == sorted(words)


def test_the_description_is_short_plain_ascii() -> None:
    lines = (PORT / "pkg-descr").read_text(encoding="ascii").split("\n")
    assert lines[-1] == "", "ends with a newline"
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line != line.rstrip() or line.startswith("WWW:")]
    assert variables()["COMMENT"] not in lines[0], "says more than the comment"


def plist() -> list[str]:
    return (PORT / "pkg-plist").read_text().removesuffix("\n").split("\n")


def test_the_packing_list_is_sorted_relative_and_free_of_old_keywords() -> None:
    assert plist() == sorted(plist())
    assert not [
        line for line in plist() if line.startswith(("/", "@", "share/doc")) or line != line.strip() or not line
    ]
    assert all(line.endswith(".gz") for line in plist() if "/man/" in line)


def test_the_packing_list_is_what_the_makefile_installs() -> None:
    text = MAKEFILE.replace("\\\n", " ")
    installed = []
    for kind, source, target in re.findall(
        r"\$\{INSTALL_(\w+)\} \$\{WRKSRC\}/(\S+)\s+\$\{STAGEDIR\}\$\{PREFIX\}/(\S+)", text
    ):
        assert (ROOT / source).is_file(), source
        installed.append(f"{target}/{Path(source).name}.gz" if kind == "MAN" else target)
    assert sorted(installed) == plist()


def test_what_the_port_installs_is_in_the_projects_source_archive(tmp_path: Path) -> None:
    """The port's distfile is what setuptools makes of the source."""
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "*.egg-info", "tests", "bench", "__pycache__"))
    code = f"from setuptools import build_meta; print(build_meta.build_sdist({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name = done.stdout.split()[-1]
    assert name.startswith(f"ktlsctl-{_version()}."), "the port's DISTNAME"
    with tarfile.open(tmp_path / name) as archive:
        held = {member.partition("/")[2] for member in archive.getnames()}
        about = archive.extractfile(f"ktlsctl-{_version()}/PKG-INFO")
        assert about is not None
        assert b"\nLicense: BSD-2-Clause\n" in about.read()
    wanted = set(re.findall(r"\$\{WRKSRC\}/(\S+)", MAKEFILE))
    assert len(wanted) > 5
    assert wanted <= held
    assert {"ktlsctl/datapath/ktls.c", "ktlsctl/datapath/ktls.h", "ktlsctl/libssl_build.py"} <= held, "and can be built"


def test_every_manual_page_and_completion_of_the_project_is_installed() -> None:
    pages = {f"share/man/man{p.name[-1]}/{p.name}.gz" for p in (ROOT / "man").iterdir()}
    assert pages == {line for line in plist() if "/man/" in line}
    shells = {p.suffix for p in (ROOT / "ktlsctl" / "completions").glob("ktlsctl.*")}
    assert shells == {".bash", ".fish", ".zsh"}
    assert len([line for line in plist() if "/man/" not in line and "periodic" not in line]) == len(shells)


def test_files_of_the_port_have_names_that_ports_may_have() -> None:
    for path in PORT.rglob("*"):
        assert re.fullmatch(r"[-.\w+]+", path.name)
        assert path.is_dir() or path.stat().st_size, "no empty file"
        assert not path.name.endswith((".orig", ".rej", ".bak", "~"))
        assert not path.is_symlink()


def test_the_license_file_is_there_and_is_that_license() -> None:
    assert "Redistribution and use" in (ROOT / "LICENSE").read_text()
    assert variables()["LICENSE"] == "BSD2CLAUSE"
    assert 'license="BSD-2-Clause"' in (ROOT / "setup.py").read_text()


def test_the_license_stands_in_no_form_that_some_setuptools_refuses_or_calls_deprecated() -> None:
    """A table in pyproject.toml ends with setuptools of 2027, a string there wants 77, classifiers are deprecated."""
    assert "license" in PROJECT["dynamic"]
    assert "license" not in PROJECT
    assert not [classifier for classifier in PROJECT["classifiers"] if classifier.startswith("License ::")]


# --- the workflow ---


def _linted(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False, timeout=120)


def zizmor(path: Path) -> list[Any]:
    """Its findings.  Offline: nothing is looked up."""
    program = Path(sys.executable).parent / "zizmor"
    done = subprocess.run(
        [program, "--offline", "--no-progress", "--format", "json", path], capture_output=True, text=True, check=False
    )
    return list(json.loads(done.stdout))


def schema_fits(path: Path) -> bool:
    done = _linted("check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path))
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0


def test_the_workflow_is_one_and_its_linter_finds_nothing() -> None:
    assert schema_fits(WORKFLOW)
    assert zizmor(WORKFLOW) == []


@pytest.mark.parametrize(
    ("good", "bad"), [("runs-on:", "run-on:"), ("steps:", "step:"), ("timeout-minutes: 60", "timeout-minutes: soon")]
)
def test_a_broken_workflow_does_not_pass(good: str, bad: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yml"
    assert good in WORKFLOW.read_text()
    broken.write_text(WORKFLOW.read_text().replace(good, bad))
    assert not schema_fits(broken)


def test_an_action_that_is_not_pinned_is_found(tmp_path: Path) -> None:
    loose = tmp_path / "loose.yml"
    loose.write_text(re.sub(r"@[0-9a-f]{40} # v[\d.]+", "@v1", WORKFLOW.read_text()))
    assert {finding["ident"] for finding in zizmor(loose)} == {"unpinned-uses"}


def test_the_workflow_runs_the_whole_suite_on_13_14_and_15() -> None:
    text = WORKFLOW.read_text()
    releases = re.findall(r'"(\d+)\.\d+"', text)
    assert releases == ["13", "14", "15"]
    assert "sh freebsd/test" in text
    assert "pytest -ra" in (FREEBSD / "test").read_text()
    assert "--deselect" not in (FREEBSD / "test").read_text()


def test_the_test_script_installs_for_the_python_that_packages_are_built_for(tmp_path: Path) -> None:
    """Dry: pkg, python and id are ours, and write down what they are asked for."""
    fakes = {
        "id": "echo 0",
        "pkg": 'case $1 in search) echo py311-cffi-1.17.1 ;; *) echo "pkg $*" >> "$LOG" ;; esac',
        "python3.11": 'mkdir -p .venv/bin; cp "$FAKES/tool" .venv/bin/python; cp "$FAKES/tool" .venv/bin/ktlsctl',
        "tool": 'echo "${0##*/} $*" >> "$LOG"',
        "sysctl": "exit 1",
    }
    for name, body in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    tree = tmp_path / "tree" / "freebsd"
    tree.mkdir(parents=True)
    shutil.copy(FREEBSD / "test", tree)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": f"{tmp_path}/log", "FAKES": str(tmp_path)}
    subprocess.run(["dash", tree / "test", "-k", "x"], check=True, env=environment, capture_output=True)
    installed, editable, modules, check, tests = (tmp_path / "log").read_text().splitlines()
    assert installed.startswith("pkg install python311 ")
    wanted = {re.split(r"[<>=~!; ]", d)[0].lower().removeprefix("py") for d in PROJECT["dependencies"]}
    assert {f"py311-{name}" for name in wanted} <= set(installed.split())
    assert editable.endswith("--editable .")
    assert "pytest" in modules
    assert (check, tests) == ("ktlsctl check --verbose --fail-on never", "python -m pytest -ra -k x")


@pytest.mark.parametrize(
    ("host", "blamed"),
    [("15.1-damaged-sendfile", []), ("14.3-on", []), ("14.3", ["freebsd.sysctl.enable", "freebsd.kernel.matrix"])],
)
def test_the_workflow_fails_where_more_is_wrong_than_the_kernels_own_sendfile(
    host: str, blamed: list[str], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    captured = CapturedHost.parse(freebsd_hosts.document(freebsd_hosts.HOSTS[host]).encode())
    report.write_text(jsondoc.render(probe.check(captured, probe.Options())))
    done = subprocess.run(
        [sys.executable, FREEBSD / "judge.py", report], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == bool(blamed), done.stderr
    assert bool(done.stderr) is bool(blamed)
    assert all(f"{report}: {identity}: " in done.stderr for identity in blamed)


def test_two_faults_at_once_are_not_the_kernels_sendfile_alone() -> None:
    complaints = runpy.run_path(str(FREEBSD / "judge.py"))["complaints"]
    check = {"id": "freebsd.records", "status": "critical", "summary": "records are wrong"}
    reason = "seen: the bytes that arrived are not those that were sent; a file sent by sendfile arrived damaged"
    report = {"errors": [], "verdict": {"status": "critical"}, "checks": [{**check, "reason": reason, "evidence": {}}]}
    assert complaints(report) == [f"freebsd.records: records are wrong: {reason}"]


#: Of the extra `test`, what reads the source: it runs on Linux.
LINTERS = {"mypy", "ruff"}


def test_the_test_script_installs_what_the_tests_need_there() -> None:
    """As a package or by pip with the same limit; without linters, their stubs and what is marked as Linux's."""
    text = (FREEBSD / "test").read_text()
    asked = [need for need in PROJECT["optional-dependencies"]["test"] if ";" not in need]
    needs = {re.split(r"[<>=]", need)[0]: need for need in asked if not need.startswith("types-")}
    assert needs.keys() > LINTERS
    for name in needs.keys() - LINTERS:
        assert f"'{needs[name]}'" in text or f'"$prefix-{name}"' in text, name


def test_what_is_left_out_on_freebsd_exists_and_has_a_reason() -> None:
    for name, why in elsewhere.LINUX_ALONE.items():
        assert (ROOT / "tests" / name).exists(), name
        assert len(why) > 10


#: What FreeBSD has not: strings that hold it, strings that are it, and functions that give what was built for Linux.
LINUX_HOLDS, LINUX_IS, LINUX_CALLS = re.compile(r"/proc/self|unshare|memfd_create"), {"gcc"}, {"from_wheel"}


def _linux_alone(tree: ast.Module) -> list[int]:
    """Lines that need Linux outside functions that are marked so, in a file that is not."""

    def marked(node: ast.stmt) -> bool:
        decorators = node.decorator_list if isinstance(node, ast.FunctionDef | ast.ClassDef) else ()
        said = [ast.unparse(decorator) for decorator in decorators]
        return any("linux_only" in text or "sys.platform != 'linux'" in text for text in said)

    if any(isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "pytestmark" for n in tree.body):
        return []
    nodes = [node for statement in tree.body if not marked(statement) for node in ast.walk(statement)]
    texts = [(n.lineno, n.value) for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    calls = [n.lineno for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) in LINUX_CALLS]
    return calls + [line for line, text in texts if LINUX_HOLDS.search(text) or text in LINUX_IS]


def test_what_only_linux_has_is_asked_by_marked_tests_alone() -> None:
    files = {path.name: path for path in (ROOT / "tests").glob("test_*.py")}
    left = {name: _linux_alone(ast.parse(files[name].read_text())) for name in files.keys() - elsewhere.LINUX_ALONE}
    assert len(left) > 50
    assert {name: lines for name, lines in left.items() if lines} == {}
    assert {name for name in files if name.endswith("_in_lab.py")} <= elsewhere.LINUX_ALONE.keys()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("def test():\n    open('/proc/self/maps')\n", [2]),
        ("@linux_only\ndef test():\n    open('/proc/self/maps')\n", []),
        ("LIB = from_wheel('x')\nrun(['gcc', 'gcc.c'])\n", [1, 2]),
        ("pytestmark = pytest.mark.skipif(sys.platform != 'linux')\nrun(['gcc'])\n", []),
    ],
)
def test_the_search_for_linux_finds_linux(text: str, lines: list[int]) -> None:
    assert _linux_alone(ast.parse(text)) == lines


def test_readme_says_what_freebsd_was_verified_by() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    assert "not yet on a running FreeBSD" in text
    assert "headers" in text
    assert "docs/freebsd.md" in text
