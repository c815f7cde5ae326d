"""The VM lane's host side without a guest: a lane that cannot fail would prove nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

VM = Path(__file__).resolve().parents[1] / "vm"
sys.path.insert(0, str(VM))

from lane import guest, image, machine, report  # noqa: E402

STEPS = ("one", "two:sub")
GOOD = """# plan one/first
# plan one/second
# plan two:sub/third
ok one/first # 1.2 s
ok one/second # 0.1 s
ok two:sub/third # 3.4 s
# end
"""


def test_a_whole_report_is_good() -> None:
    said = report.read(GOOD, STEPS)
    assert said.good
    assert said.passed == ("one/first", "one/second", "two:sub/third")


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("# end\n", "", "the report has no end"),
        ("# plan two:sub/third\nok one", "ok one", "two:sub/third was reported and not planned"),
        ("# plan one", "# one", "the step one has no tests"),
        ("ok one/second", "ok one/first", "one/first was reported twice"),
    ],
)
def test_a_faulty_report_is_not(old: str, new: str, wrong: str) -> None:
    said = report.read(GOOD.replace(old, new), STEPS)
    assert wrong in said.wrong
    assert not said.good


def test_a_failed_and_a_missing_test_are_named() -> None:
    text = GOOD.replace("ok one/first", "not ok one/first").replace("ok one/second # 0.1 s\n", "")
    said = report.read(text, STEPS)
    assert (said.failed, said.missing) == (("one/first",), ("one/second",))
    assert not said.good
    assert not report.read("", STEPS).good
    assert not report.read("# end\n", ()).good


def test_a_line_with_noise_is_no_result() -> None:
    said = report.read(GOOD.replace("ok one/first", "# ok one/first"), STEPS)
    assert said.missing == ("one/first",)


@pytest.fixture
def emulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "POLL", 0.02)
    return tmp_path


def watch(
    directory: Path, script: str, *, seconds: float = 20, silence: float = 20
) -> machine.Outcome:
    """Watch a shell script in the emulator's place; $C is its console, $R its report."""
    console, results = directory / "console", directory / "results"
    argv = ["sh", "-c", f"C={console} R={results}; {script}"]
    return machine.watch(argv, [results, console], console, seconds=seconds, silence=silence)


def test_a_machine_that_ends_by_itself(emulated: Path) -> None:
    outcome = watch(emulated, "echo booting > $C; echo '# end' > $R")
    assert outcome.wrong == ""


def test_a_machine_that_is_silent_is_ended(emulated: Path) -> None:
    outcome = watch(emulated, "echo booting > $C; exec sleep 60", silence=0.3)
    assert outcome.wrong.startswith("hung: not a line")
    assert outcome.seconds < 20


def test_a_machine_that_talks_for_ever_is_ended(emulated: Path) -> None:
    outcome = watch(emulated, "while :; do echo x >> $C; sleep 0.05; done", seconds=0.5)
    assert outcome.wrong.startswith("not done after")


def test_a_panic_ends_the_machine_at_once(emulated: Path) -> None:
    script = (
        "printf '[1.0] Kernel panic - not' > $C; sleep 0.3; echo ' syncing: x' >> $C; exec sleep 60"
    )
    outcome = watch(emulated, script)
    assert outcome.wrong == "the guest's kernel panicked"
    assert outcome.seconds < 20


def test_a_panic_just_before_the_end_is_seen(emulated: Path) -> None:
    outcome = watch(emulated, "echo 'Kernel panic - not syncing: x' > $C")
    assert outcome.wrong == "the guest's kernel panicked"


def test_an_emulator_that_does_not_start_is_named(emulated: Path) -> None:
    outcome = watch(emulated, "echo no such machine >&2; exit 1")
    assert outcome.wrong == "the emulator failed (1): no such machine"


def test_the_machine_goes_with_the_lane(emulated: Path) -> None:
    """Even a lane that is killed leaves no emulator behind."""
    code = (
        "import sys; from pathlib import Path; from lane import machine\n"
        "machine.watch(['sh', '-c', 'echo $$ > pid; exec sleep 300'], [], Path('c'), seconds=300, silence=300)"
    )
    lane = subprocess.Popen(
        [sys.executable, "-c", code], cwd=emulated, env={**os.environ, "PYTHONPATH": str(VM)}
    )
    record = emulated / "pid"
    deadline = time.monotonic() + 20
    while not (record.exists() and record.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.02)
    emulator = record.read_text().strip()
    lane.send_signal(signal.SIGKILL)
    lane.wait()
    while alive(emulator) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(emulator)


def alive(pid: str) -> bool:
    try:
        return "(sleep) Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_every_guest_is_described_and_has_tests_in_its_steps() -> None:
    assert guest.names()
    for name in guest.names():
        one = guest.load(name)
        assert one.steps and one.packages
        assert (one.directory / "customize").exists()
        for step in one.steps:
            text = (one.directory / "steps" / f"{step.partition(':')[0]}.bash").read_text()
            assert "\ntest_" in text, step
    with pytest.raises(guest.LaneError, match="cannot find the guest none"):
        guest.load("none")


def test_a_build_that_fails_leaves_no_image(tmp_path: Path) -> None:
    final = tmp_path / "cache" / "guest-0123"
    final.parent.mkdir()
    with pytest.raises(guest.LaneError), image.unfinished(final) as directory:
        (directory / "disk.img").write_bytes(b"half")
        raise guest.LaneError("the mirror is gone")
    assert not final.exists()
    with image.unfinished(final) as directory:
        assert list(directory.iterdir()) == []
        (directory / "disk.img").write_bytes(b"whole")
    assert [path.name for path in final.parent.iterdir()] == ["guest-0123"]


def test_a_recipe_is_known_by_the_content_of_its_files(tmp_path: Path) -> None:
    script = tmp_path / "customize"
    keys = set()
    for text, packages in (("a", ("x",)), ("b", ("x",)), ("a", ("x", "y")), ("a", ("x",))):
        script.write_text(text)
        keys.add(image.recipe_key("bullseye", packages, script))
    assert len(keys) == 3


def test_a_program_that_fails_is_the_reason(tmp_path: Path) -> None:
    with pytest.raises(guest.LaneError, match="cannot make it: sh failed:\nno room"):
        image.run(["sh", "-c", "echo no room; exit 1"], "make it")
    with pytest.raises(guest.LaneError, match="no-such-program is not installed"):
        image.run(["no-such-program"], "make it")


def test_what_nobody_used_for_long_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTLESS_VM_CACHE", str(tmp_path / "cache"))
    old, used, other = (guest.cache() / name for name in ("bullseye-1", "bullseye-2", "wheels-1"))
    for path in (old, used, other):
        path.mkdir()
        os.utime(path, (0, 0))
    image.prune("bullseye", used)
    assert sorted(path.name for path in guest.cache().iterdir()) == ["bullseye-2", "wheels-1"]


# What runs in the guest, on this machine.

STEP = """test_good() { echo fine; }
test_bad() { false; echo not reached; }
test_slow() { sleep 60; }
test_argument() { [ "$1" = sub ] || return 1; }
"""


def start(directory: Path, steps: dict[str, str], *order: str) -> str:
    """The report of guest/start on STEPS."""
    lane, results = directory / "lane", directory / "results"
    (lane / "guest").mkdir(parents=True)
    (lane / "steps").mkdir()
    (lane / "guest" / "library.bash").write_text("")
    for name, text in steps.items():
        (lane / "steps" / f"{name}.bash").write_text(text)
    (lane / "steps" / "order").write_text("".join(f"{name}\n" for name in order))
    results.write_text("")
    boot(directory)
    return results.read_text()


def boot(directory: Path) -> None:
    """One boot of the guest: the steps until the next."""
    subprocess.run(
        [VM / "guest" / "start"],
        env={
            "PATH": "/usr/bin:/bin",
            "TMPDIR": str(directory),
            "LANE": str(directory / "lane"),
            "LANE_REPORT": str(directory / "results"),
            "LANE_STATE": str(directory / "state"),
            "LANE_REBOOT": "true",
            "LANE_USER": str(os.getuid()),
            "LANE_TEST_SECONDS": "2",
        },
        capture_output=True,
        check=True,
        timeout=60,
    )


def test_the_guest_tells_good_from_bad_and_ends_what_hangs(tmp_path: Path) -> None:
    text = start(tmp_path, {"a": STEP, "b": "test_last() { true; }\n"}, "a:sub", "b")
    said = report.read(text, ("a:sub", "b"))
    assert said.passed == ("a:sub/good", "a:sub/argument", "b/last")
    assert said.failed == ("a:sub/bad", "a:sub/slow")
    assert (said.missing, said.wrong) == ((), ())
    assert "not done after 2 s" in text
    assert "not reached" not in text


def test_the_guest_ends_where_a_needed_step_fails(tmp_path: Path) -> None:
    steps = {"a": "# needed\n\ntest_bad() { false; }\ntest_good() { true; }\n", "b": STEP}
    said = report.read(start(tmp_path, steps, "a", "b"), ("a", "b"))
    assert (said.passed, said.failed) == (("a/good",), ("a/bad",))
    assert said.missing == ("b/good", "b/bad", "b/slow", "b/argument")
    assert not said.good


def test_the_guest_goes_on_after_a_reboot(tmp_path: Path) -> None:
    steps = {"a": "test_good() { true; }\n", "b": "# boots\n\ntest_after() { true; }\n"}
    order = ("a", "b:clean", "b:reset")
    for boots in range(3):
        if boots:
            boot(tmp_path)
            said = report.read((tmp_path / "results").read_text(), order)
        else:
            said = report.read(start(tmp_path, steps, *order), order)
        everything = ("a/good", "b:clean/after", "b:reset/after")
        assert said.passed == everything[: boots + 1]
        assert said.missing == everything[boots + 1 :]
        assert said.good == (boots == 2)
