"""`python -m chaos.observe.install` (`make observe`): Prometheus and Alertmanager without root.

Downloads Debian's packages with `apt-get download`, which verifies them against the signed package
lists, and unpacks them below the interpreter. Nothing is installed on the system and no
service is started. Quick when the programs are there already; on a machine without apt it says what
to do instead and ends with 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from chaos.lab.process import LabError
from chaos.observe.programs import HOW, PROGRAMS, NotInstalled, described, unpacked, version_of

COMMAND_S = 300.0
TRIES_MAX = 10
PAUSE_S = 15.0
"""Between two tries: an archive that is renewed just now is whole again soon."""
APT = (
    "apt-get", "--quiet", "-o", "Acquire::Retries=1",
    "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20",
)  # fmt: skip
DATA_PATH = b"/usr/share/prometheus/alertmanager"
DATA_PATH_HERE = b".//./share/prometheus/alertmanager"
_NO_PROMPT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}


def install(target: Path, report: Callable[[str], None] = print) -> None:
    """Have every program of PROGRAMS in `target`/bin with its data in `target`/share, or nothing.

    Raises LabError with what failed and what to do about it.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise NotInstalled(f"this machine has no apt-get and dpkg: {HOW}")
    packages = sorted({program.package for program in PROGRAMS.values()})
    report(f"fetching {' and '.join(packages)} ...")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="observe-") as scratch:
        downloads, tree = Path(scratch), Path(scratch) / "tree"
        _download(packages, downloads)
        for file in sorted(downloads.glob("*.deb")):
            _run(["dpkg", "-x", str(file), str(tree)], downloads)
        _check(tree / "usr", downloads / "ready")
        shutil.rmtree(target, ignore_errors=True)
        (downloads / "ready").rename(target)
    version_of.cache_clear()
    report(f"the programs are in {target / 'bin'}")


def _check(usr: Path, ready: Path) -> None:
    """Make `ready` of the unpacked packages; raises LabError when a program is not there or does
    not run here.
    """
    (ready / "bin").mkdir(parents=True)
    data = usr / "share" / "prometheus"
    if data.is_dir():
        (ready / "share").mkdir()
        data.rename(ready / "share" / "prometheus")
    for name, program in PROGRAMS.items():
        source = usr / "bin" / name
        if not source.is_file():
            raise LabError(f"the package {program.package} holds no program {name}: {HOW}")
        source.rename(ready / "bin" / name)
        _make_movable(ready / "bin" / name)
        if version_of(ready / "bin" / name, program.says or name) is None:
            raise LabError(f"{name} of {program.package} does not run on this machine: {HOW}")


def _make_movable(program: Path) -> None:
    """Have Debian's Alertmanager look for its templates below its working directory.

    It reads them from /usr/share at every start and ends without them; there is no option for the
    place. The path is replaced by a relative one of the same length.
    """
    content = program.read_bytes()
    if DATA_PATH in content:
        mode = program.stat().st_mode
        program.write_bytes(content.replace(DATA_PATH, DATA_PATH_HERE))
        program.chmod(mode)


def _download(packages: Sequence[str], directory: Path) -> None:
    """The packages' files; with package lists of our own when the machine's are missing or old."""
    try:
        _run([*APT, "download", *packages], directory)
    except LabError:
        lists, cache = directory / "lists", directory / "cache"
        for place in (lists / "partial", cache / "archives" / "partial"):
            place.mkdir(parents=True)
        own = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}"]
        own += ["-o", "Acquire::Languages=none", "-o", "Debug::NoLocking=1"]
        if os.geteuid() == 0:  # the sandbox's user cannot write here
            own += ["-o", "APT::Sandbox::User=root"]
        _run([*APT, *own, "update"], directory)
        _run([*APT, *own, "download", *packages], directory)


def _run(command: Sequence[str], directory: Path) -> None:
    """Run one command; raises LabError with its last line."""
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, **_NO_PROMPT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"`{' '.join(command)}` did not work: {error}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise LabError(f"`{' '.join(command)}` failed: {said}; {HOW}")


def install_in_tries(target: Path, tries: int, pause: Callable[[float], None] = time.sleep) -> None:
    """`install`, again after a failure that may pass: `tries` times at most, PAUSE_S apart."""
    for left in reversed(range(tries)):
        try:
            install(target)
        except LabError as error:
            if isinstance(error, NotInstalled) or not left:
                raise
            print(f"observe: {error}; again in {PAUSE_S:g} s", file=sys.stderr)
            pause(PAUSE_S)
        else:
            return


def main(arguments: list[str]) -> int:
    """Exit code 1, with one line, when the programs cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m chaos.observe.install", description=__doc__)
    parser.add_argument("--tries", type=_tries, default=1, help="how often to try (1)")
    tries: int = parser.parse_args(arguments).tries
    try:
        try:
            print(described(*PROGRAMS))
        except NotInstalled:
            install_in_tries(unpacked().parent, tries)
            print(described(*PROGRAMS))
    except LabError as error:
        print(f"observe: {error}", file=sys.stderr)
        return 1
    return 0


def _tries(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= TRIES_MAX:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {TRIES_MAX}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
