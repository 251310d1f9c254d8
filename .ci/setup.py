"""`make setup`: everything the project needs, into `.venv`, from the hash-locked files.

Runs on the machine's own Python and imports nothing outside its standard library. Quick when
nothing changed: it compares a digest of its inputs with the one it left in `.venv`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "symphony-setup.sha256"
INPUTS = ("requirements.lock", "requirements-java.lock", "pyproject.toml", ".ci/setup.py")
MINIMUM = (3, 11)
VERSION = ".".join(str(part) for part in sys.version_info[:2])
CANDIDATES = ("python3.13", "python3.12", "python3.11")
JAVA_MINIMUM = 17


def main():
    """Do what is missing; exit code 1 with one line when it cannot be done."""
    if sys.version_info < MINIMUM:
        use_newer_python()
    started = time.time()
    digest = inputs_digest()
    if not installed(digest):
        create_environment()
        step("installing packages (hash-locked)", pip_install, "requirements.lock")
        if not system_java():
            step("installing a Java runtime", install_java)
        step("installing chaos-symphony", install_project)
    fetch = subprocess.call([PYTHON, "-m", "chaos.lab.install"], cwd=ROOT)
    if fetch:
        stop("Apache Kafka could not be fetched; the reason is above")
    if not installed(digest):
        STAMP.write_text(digest)
        seconds = time.time() - started
        print(f"setup done in {seconds:.0f} s; the command is .venv/bin/symphony")


def use_newer_python():
    """Start again under a Python of at least 3.11 from PATH."""
    for name in CANDIDATES:
        program = shutil.which(name)
        if program and subprocess.call([program, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(program, [program, str(Path(__file__).resolve())])  # noqa: S606
    stop(
        f"Python 3.11 or newer is needed, this is {VERSION}: install one,"
        " or name it with `make setup PYTHON=/path/to/python3.11`"
    )


def inputs_digest():
    """The sha256 of all files that decide what is installed, and of this Python's version."""
    digest = hashlib.sha256(VERSION.encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def installed(digest):
    """True when `.venv` was completed from exactly these inputs."""
    return STAMP.exists() and PYTHON.exists() and STAMP.read_text() == digest


def create_environment():
    """Make `.venv` unless it works already."""
    if PYTHON.exists() and subprocess.call([PYTHON, "-c", ""]) == 0:
        return
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=False)
    if made.returncode:
        stop("the virtual environment could not be made (Debian: apt install python3-venv)")


def step(title, action, *arguments):
    """Run one part with its name and duration on the terminal."""
    print(f"{title} ...", flush=True)
    started = time.time()
    action(*arguments)
    print(f"  done in {time.time() - started:.0f} s", flush=True)


def pip(*arguments):
    """Run the environment's pip; True when it succeeded."""
    command = [str(PYTHON), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    quiet = dict(os.environ, PYTHONWARNINGS="ignore")
    return subprocess.call(command + list(arguments), cwd=ROOT, env=quiet) == 0


def pip_install(lock):
    """Install exactly what a lock file names; pip's own message tells what failed."""
    if not pip("install", "--require-hashes", "--requirement", lock):
        stop(f"the packages of {lock} could not be installed; pip's message is above")


def install_project():
    """Install this checkout in place: its packages and the `symphony` command."""
    if not pip("install", "--no-deps", "--no-build-isolation", "--editable", "."):
        stop("the project itself could not be installed; pip's message is above")


def system_java():
    """True when the machine has a Java that Kafka can run on."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if not java:
        return False
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    version = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return version is not None and int(version.group(1)) >= JAVA_MINIMUM


def install_java():
    """A Java runtime as a package; without one for this platform only the lab is lost."""
    if not pip("install", "--require-hashes", "--requirement", "requirements-java.lock"):
        print(
            f"  no Java runtime for this platform: install Java {JAVA_MINIMUM} or newer,"
            " or run the lab with --broker external"
        )


def stop(message):
    """End with one line on standard error."""
    print("setup: " + message, file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
