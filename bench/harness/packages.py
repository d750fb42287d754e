"""Debian packages that contenders need, installed where they are missing.

Owns asking for them; what a contender cannot do without afterwards is said by its `missing`. Needs root and apt-get.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable

from bench.harness.contender import Contender

_LIMIT_S = 1200
# Servers are started by the suite, each for its measurement: none is to run because it was installed.
_NO_SERVICES = "#!/bin/sh\nexit 101\n"
_POLICY = "/usr/sbin/policy-rc.d"


def install(contenders: Iterable[Contender], *, may_install: bool) -> None:
    """Installs what is missing, and says so; a failure is said and left to the contenders."""
    wanted = sorted({package for contender in contenders for package in contender.packages})
    missing = [package for package in wanted if not _is_installed(package)]
    if not missing or not may_install:
        return
    if not shutil.which("apt-get"):
        print(f"not installed, and this is no Debian: {' '.join(missing)}")
        return
    print(f"installing Debian packages: {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    is_ours = not os.path.lexists(_POLICY)
    if is_ours:
        with open(os.open(_POLICY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755), "w", encoding="ascii") as policy:
            policy.write(_NO_SERVICES)
    try:
        commands = (("update", "-qq"), ("install", "-y", "-qq", "--no-install-recommends", *missing))
        for words in commands:
            done = subprocess.run(
                ["apt-get", *words], env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
            )
            if done.returncode:
                print(f"apt-get {words[0]}: {(done.stderr or done.stdout).strip()[-500:]}")
                return
    finally:
        if is_ours:
            os.unlink(_POLICY)


def _is_installed(package: str) -> bool:
    command = ["dpkg-query", "-W", "-f", "${Status}", package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode == 0 and done.stdout.endswith(" installed")
