# SPDX-License-Identifier: BSD-2-Clause
"""host: the door tells absent from denied, and a recording answers like the host that it was made of."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.host import (
    READ_LIMIT,
    CapturedHost,
    CaptureError,
    Host,
    LiveHost,
    Ran,
    RecordingHost,
    failed,
)
from ktlsctl.model import Attempt, Outcome


def test_a_missing_file_is_absent_and_a_directory_is_not_a_file(tmp_path: Path) -> None:
    host = LiveHost(str(tmp_path))
    (tmp_path / "directory").mkdir()
    assert host.read("/nothing").outcome is Outcome.ABSENT
    assert host.names("/nothing").outcome is Outcome.ABSENT
    assert host.resolve("/nothing").outcome is Outcome.ABSENT
    assert host.read("/directory").outcome is Outcome.FAILED


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_refused_file_is_denied_and_never_absent(number: int) -> None:
    attempt = failed(OSError(number, os.strerror(number)))
    assert attempt.outcome is Outcome.DENIED
    assert attempt.reason == os.strerror(number)


def test_a_fifo_where_a_file_is_expected_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert LiveHost(str(tmp_path)).read("/fifo") == Attempt.ran(b"")


def test_a_file_beyond_the_limit_is_refused_not_cut(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(READ_LIMIT + 1)
    attempt = LiveHost(str(tmp_path)).read("/huge")
    assert attempt.outcome is Outcome.FAILED
    assert "larger than" in attempt.reason


def test_keep_reduces_what_is_read_before_anyone_sees_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"secret\npublic\n")
    host = RecordingHost(LiveHost(str(tmp_path)))
    assert host.read("/file", keep=lambda content: content.replace(b"secret\n", b"")) == Attempt.ran(b"public\n")
    assert "secret" not in json.dumps(host.document("now"))


def test_a_command_runs_in_the_c_locale_with_its_status_and_both_streams() -> None:
    attempt = LiveHost().run("sh", "-c", "echo out; echo err >&2; echo $LC_ALL; exit 7")
    assert attempt == Attempt.ran(Ran(7, "out\nC\n", "err\n"))


def test_a_command_that_is_not_installed_is_absent() -> None:
    assert LiveHost().run("ktlsctl-no-such-command").outcome is Outcome.ABSENT


def test_a_command_that_hangs_ends_at_its_deadline() -> None:
    assert LiveHost().run("sleep", "60", timeout=0.2).outcome is Outcome.TIMEOUT


def test_a_question_that_fails_with_an_oserror_is_an_answer() -> None:
    def refuse() -> int:
        raise OSError(errno.EPERM, "Operation not permitted")

    assert LiveHost().ask("q", refuse).outcome is Outcome.DENIED


def _ask_everything(host: Host) -> list[object]:
    def refuse() -> int:
        raise OSError(errno.EACCES, "Permission denied")

    return [
        host.about,
        host.read("/file"),
        host.read("/binary"),
        host.read("/none"),
        host.names("/"),
        host.resolve("/file"),
        host.run("sh", "-c", "echo hello"),
        host.run("ktlsctl-no-such-command"),
        host.ask("number", lambda: 5),
        host.ask("refused", refuse),
        host.begin("json:dumps", {"a": [1]}, 20).answer(),
        host.begin("json:no_such_function", None, 20).answer(),
    ]


def test_a_recording_answers_everything_as_the_host_did(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text\n")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    recording = RecordingHost(LiveHost(str(tmp_path)), ("/named",))
    live = _ask_everything(recording)
    replayed = CapturedHost.parse(json.dumps(recording.document("2026-01-01T00:00:00Z")).encode())
    assert _ask_everything(replayed) == live
    assert replayed.libssl == ("/named",)
    assert replayed.recorded_at == "2026-01-01T00:00:00Z"


def test_what_was_never_asked_is_unrecorded_and_not_absent(tmp_path: Path) -> None:
    host = CapturedHost.parse(json.dumps(RecordingHost(LiveHost(str(tmp_path))).document("now")).encode())
    assert host.read("/file").outcome is Outcome.UNRECORDED
    assert host.run("true").outcome is Outcome.UNRECORDED
    assert host.begin("json:dumps", 1, 1).answer().outcome is Outcome.UNRECORDED


def test_a_capture_written_by_hand_may_say_that_the_rest_is_absent() -> None:
    document = {
        "ktlsctl_capture": "1.0",
        "otherwise": "absent",
        "about": {"os": "freebsd", "release": "14.3-RELEASE", "machine": "amd64", "privileged": True},
        "answers": [],
    }
    host = CapturedHost.parse(json.dumps(document).encode())
    assert host.read("/etc/rc.conf").outcome is Outcome.ABSENT
    assert host.ask("anything", lambda: 1).outcome is Outcome.UNRECORDED


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a ktlsctl capture"),
        (b"{}", "not a ktlsctl capture"),
        (b'{"ktlsctl_capture": "2.0"}', "this ktlsctl reads 1.0"),
        (b'{"ktlsctl_capture": 1}', "this ktlsctl reads 1.0"),
        (b'{"ktlsctl_capture": "1.0"}', "damaged capture"),
        (b'{"ktlsctl_capture": "1.0", "about": {}, "answers": []}', "damaged capture"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_file_that_is_no_capture_is_refused_in_one_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(CaptureError, match=sentence):
        CapturedHost.parse(content)


_ABOUT = {"os": "linux", "release": "6.1", "machine": "x86_64", "privileged": False}
_scalars = st.none() | st.booleans() | st.integers() | st.text()
_answers = st.lists(
    st.dictionaries(
        st.sampled_from(("door", "key", "outcome", "text", "base64", "value", "reason")),
        _scalars | st.sampled_from(("read", "run", "ran", "absent", "probe")) | st.lists(_scalars),
    )
)


@given(_answers)
def test_a_capture_of_any_content_is_read_or_refused_and_its_host_never_raises(answers: list[object]) -> None:
    document = {"ktlsctl_capture": "1.0", "about": _ABOUT, "answers": answers}
    try:
        host = CapturedHost.parse(json.dumps(document).encode())
    except CaptureError:
        return
    host.read("")
    host.names("")
    host.resolve("")
    host.run("")


def test_an_empty_path_in_a_capture_is_no_answer() -> None:
    answer = {"door": "resolve", "key": "/link", "outcome": "ran", "value": ""}
    document = {"ktlsctl_capture": "1.0", "about": _ABOUT, "answers": [answer]}
    assert CapturedHost.parse(json.dumps(document).encode()).resolve("/link").outcome is Outcome.UNRECORDED


@given(st.binary())
def test_arbitrary_bytes_are_never_a_capture_and_never_an_exception_of_another_kind(content: bytes) -> None:
    with pytest.raises(CaptureError):
        CapturedHost.parse(content)
