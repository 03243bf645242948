# SPDX-License-Identifier: BSD-2-Clause
"""cli: what a user types and what comes back: streams, documents, exit status, nothing else."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ktlsctl import __version__
from ktlsctl.cli import cli
from ktlsctl.commands.output import exit_status
from ktlsctl.schema import report_schema

ROOT = Path(__file__).parent.parent
CAPTURES = Path(__file__).parent / "captures"
HEALTHY = str(CAPTURES / "freebsd-15.0.json")
BROKEN = str(CAPTURES / "freebsd-14.3.json")


def ktlsctl(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE")}
    environment |= options.pop("env", {})
    return subprocess.run(
        [sys.executable, "-m", "ktlsctl", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=120,
        check=False,
        **options,
    )


def document(text: str) -> Any:
    """The one valid document that stdout must hold."""
    value = json.loads(text)
    jsonschema.validate(value, json.loads(report_schema()))
    return value


def test_version_and_help_exit_0() -> None:
    assert ktlsctl("--version").stdout == f"ktlsctl {__version__}\n"
    for arguments in (["--help"], ["-h"], ["check", "--help"], ["capture", "-h"]):
        done = ktlsctl(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Usage: ktlsctl")


def test_help_fits_a_terminal_of_80_columns() -> None:
    for arguments in ([], ["check"], ["capture"], ["schema"], ["completion"], ["snippet"], ["enable"], ["undo"]):
        assert max(map(len, ktlsctl(*arguments, "--help").stdout.splitlines())) <= 80


def test_a_bare_ktlsctl_prints_help_and_exits_3() -> None:
    done = ktlsctl()
    assert done.returncode == 3
    assert done.stdout.startswith("Usage: ktlsctl")


@pytest.mark.parametrize(
    "arguments",
    [
        ["chekc"],
        ["check", "--no-such-option"],
        ["check", "--format", "yaml"],
        ["check", "--fail-on", "sometimes"],
        ["check", "surplus"],
        ["check", "--libssl"],
        ["check", "-q", "-v"],
        ["check", "--from", HEALTHY, "--load"],
        ["check", "--from", HEALTHY, "--libssl", "/x"],
        ["check", "--from", "/no/such/file"],
        ["check", "--from", "/"],
        ["check", "--from", str(ROOT / "pyproject.toml")],
        ["completion", "tcsh"],
        ["--nonsense"],
    ],
)
def test_bad_input_is_one_sentence_on_stderr_and_exit_3(arguments: list[str]) -> None:
    done = ktlsctl(*arguments)
    assert done.returncode == 3
    assert done.stdout == ""
    assert re.fullmatch(r"ktlsctl: .+\n", done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("form", [["--json"], ["--format", "json"], ["--format=json"]])
def test_bad_input_still_gives_one_valid_document_when_json_was_asked_for(form: list[str]) -> None:
    done = ktlsctl("check", *form, "--no-such-option")
    assert done.returncode == 3
    report = document(done.stdout)
    assert report["verdict"]["status"] == "unknown"
    assert "no-such-option" in report["errors"][0]


def test_an_internal_error_is_a_sentence_and_a_document_and_a_traceback_only_with_debug(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import ktlsctl.probe\ndef check(*a, **k):\n    raise RuntimeError('boom')\nktlsctl.probe.check = check\n"
    )
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = ktlsctl("check", "--json", env=env)
    assert done.returncode == 3
    assert "internal error: RuntimeError: boom" in done.stderr
    assert "Traceback" not in done.stderr
    assert "boom" in document(done.stdout)["errors"][0]
    assert "Traceback" in ktlsctl("check", "--debug", env=env).stderr


def test_this_host_is_judged_without_privilege_and_without_a_traceback() -> None:
    done = ktlsctl("check", "--json")
    assert done.stderr == ""
    report = document(done.stdout)
    assert done.returncode == {"ok": 0, "warning": 1, "critical": 2, "unknown": 3}[report["verdict"]["status"]]
    assert report["schema_version"] == "1.0"
    assert report["matrix"]


def test_the_three_shapes_of_asking_for_json_print_the_same_document() -> None:
    documents = [
        document(ktlsctl("check", "--from", HEALTHY, *form).stdout)
        for form in (["--json"], ["--format", "json"], ["--format=json"])
    ]
    for each in documents:
        each.pop("generated_at")
    assert documents[0] == documents[1] == documents[2]


@pytest.mark.parametrize("form", ["text", "json", "nagios", "prometheus"])
def test_a_capture_is_judged_on_any_machine_in_every_format(form: str) -> None:
    healthy, broken = (ktlsctl("check", "--from", c, "--format", form) for c in (HEALTHY, BROKEN))
    assert (healthy.returncode, healthy.stderr) == (0, "")
    assert (broken.returncode, broken.stderr) == (2, "")


def test_a_capture_is_read_from_stdin() -> None:
    with open(HEALTHY) as stdin:
        done = ktlsctl("check", "--from", "-", "--json", stdin=stdin)
    assert document(done.stdout)["host"]["os"] == "freebsd"


def test_capturing_this_host_and_judging_the_capture_gives_the_same_findings(tmp_path: Path) -> None:
    file = tmp_path / "host.json"
    done = ktlsctl("capture", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    live, replayed = (document(ktlsctl("check", "--json", *a).stdout) for a in ([], ["--from", str(file)]))
    assert replayed["source"].startswith("capture ")
    for each in (live, replayed):
        for changing in ("generated_at", "source", "counters"):
            each.pop(changing)
    assert live == replayed


def test_a_capture_holds_no_host_name_no_address_and_no_key(tmp_path: Path) -> None:
    text = ktlsctl("capture").stdout
    assert os.uname().nodename not in set(re.split(r"[^A-Za-z0-9_.-]+", text))
    assert not re.search(r"\b(?:\d{1,3}\.){3}\d{1,3}\b(?!\.)", re.sub(r"127\.0\.0\.1", "", text))
    assert "PRIVATE KEY" not in text


def test_fail_on_lets_a_collector_take_the_document_with_exit_0() -> None:
    for fail_on, status in (("never", 0), ("warning", 2), ("critical", 2)):
        assert ktlsctl("check", "--from", BROKEN, "--json", "--fail-on", fail_on).returncode == status


@pytest.mark.parametrize(
    ("verdict", "fail_on", "errors", "status"),
    [
        ("ok", "warning", False, 0),
        ("warning", "warning", False, 1),
        ("warning", "critical", False, 0),
        ("critical", "critical", False, 2),
        ("unknown", "critical", False, 3),
        ("unknown", "never", False, 0),
        ("critical", "never", False, 0),
        ("unknown", "never", True, 3),
    ],
)
def test_the_exit_status_follows_the_contract(verdict: str, fail_on: str, errors: bool, status: int) -> None:
    assert exit_status(verdict, fail_on, errors) == status


def test_output_is_written_whole_with_nothing_on_stdout(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    done = ktlsctl("check", "--from", HEALTHY, "--json", "--output", str(target))
    assert (done.returncode, done.stdout) == (0, "")
    document(target.read_text())
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_output_to_a_place_that_cannot_be_written_is_a_sentence_and_exit_3() -> None:
    done = ktlsctl("check", "--from", HEALTHY, "--output", "/no/such/directory/file")
    assert done.returncode == 3
    assert "cannot write /no/such/directory/file: No such file or directory" in done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    for command in ("check -v", "schema", "--help"):
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m ktlsctl {command} | true; exit ${{PIPESTATUS[0]}}"],
            capture_output=True, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        assert done.returncode in (0, 1, 2)


def test_a_full_disk_behind_stdout_is_a_sentence_and_exit_3() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ktlsctl", "check", "--from", HEALTHY],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
    assert done.returncode == 3
    assert re.fullmatch(r"ktlsctl: cannot write the report to stdout: No space left on device\.\n", done.stderr)


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What a terminal is sent."""
    primary, secondary = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE")}
    process = subprocess.Popen(
        [sys.executable, "-m", "ktlsctl", *arguments],
        stdout=secondary,
        cwd=ROOT,
        env=env | {"TERM": "xterm"} | environment,
    )
    os.close(secondary)
    sent = b""
    while True:
        try:
            chunk = os.read(primary, 65536)
        except OSError:  # EIO: the terminal's other side is closed
            break
        if not chunk:
            break
        sent += chunk
    process.wait(60)
    os.close(primary)
    return sent.decode()


def test_colour_only_on_a_terminal_and_never_with_no_color() -> None:
    judge = ("check", "--from", BROKEN)
    assert "\x1b[" in on_a_terminal(*judge)
    assert "\x1b[" not in on_a_terminal(*judge, NO_COLOR="1")
    assert "\x1b[" not in on_a_terminal(*judge, TERM="dumb")
    assert "\x1b[" not in on_a_terminal(*judge, "--color", "never")
    assert "\x1b[" not in ktlsctl(*judge).stdout
    assert "\x1b[" in ktlsctl(*judge, "--color", "always").stdout
    assert "\x1b[" in ktlsctl(*judge, env={"FORCE_COLOR": "1"}).stdout
    assert "\x1b[" not in ktlsctl(*judge, env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).stdout


def test_colour_is_never_the_only_sign() -> None:
    plain = ktlsctl("check", "--from", BROKEN).stdout
    coloured = ktlsctl("check", "--from", BROKEN, "--color", "always").stdout
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_the_text_ends_with_the_verdict_and_the_next_command() -> None:
    lines = ktlsctl("check", "--from", BROKEN).stdout.splitlines()
    tail = "\n".join(lines[-6:])
    assert "CRITICAL" in tail
    assert "freebsd.sysctl.enable" in tail
    assert "sysctl kern.ipc.tls.enable=1" in tail
    assert max(map(len, lines)) <= 80


def test_the_schema_command_prints_the_schema_of_the_package() -> None:
    schema = json.loads(ktlsctl("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)


def test_ctrl_c_ends_quietly_with_130(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import ktlsctl.probe\ndef check(*a, **k):\n    raise KeyboardInterrupt\nktlsctl.probe.check = check\n"
    )
    done = ktlsctl("check", env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert (done.returncode, done.stdout) == (130, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("where", ["a text file", "an empty file", "a directory", "nothing"])
def test_a_libssl_that_is_none_is_a_finding_and_exit_3_and_the_rest_of_the_report_stands(
    where: str, tmp_path: Path
) -> None:
    path = tmp_path / "libssl.so.3"
    if where == "a text file":
        path.write_text("not a library\n")
    elif where == "an empty file":
        path.touch()
    elif where == "a directory":
        path.mkdir()
    done = ktlsctl("check", "--json", "--libssl", str(path))
    assert done.returncode == 3
    report = document(done.stdout)
    assert str(path) in report["errors"][0]
    assert report["verdict"]["status"] == "unknown"
    assert len(report["checks"]) > 10
    assert len(report["matrix"]) >= 32


def test_the_default_format_is_text_and_not_nothing() -> None:
    # Two click options on one parameter have another default in click 8.2 than in 8.1: each has its own here.
    parameters = {p.name: p for p in cli.commands["check"].params}
    assert parameters["form"].default == "text"
    assert [p.opts for p in parameters.values()].count(["--json"]) == 1
    assert parameters["as_json"].opts == ["--json"]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", [f"check --from {HEALTHY} --output {{}}", "schema"])
def test_a_stream_that_the_caller_closed_is_no_error(tmp_path: Path, command: str, closed: str) -> None:
    file = tmp_path / "report"
    line = f"{sys.executable} -m ktlsctl {command.format(file)} {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "AttributeError" not in done.stdout + done.stderr
    assert file.exists() is ("--output" in command)


@pytest.mark.parametrize("arguments", [("stats", "--watch"), ("top", "--interval"), ("selftest", "--timeout")])
def test_what_is_no_number_of_seconds_is_refused(arguments: tuple[str, str]) -> None:
    done = ktlsctl(*arguments, "nan")
    assert done.returncode == 3
    assert "nan is no number of seconds" in done.stderr
