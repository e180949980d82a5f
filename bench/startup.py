"""How long until the first byte? `python -m bench.startup`: seconds from the start of the command to its first object.

Every object is a single small file, so that the moment nginx has answered the first GET is the moment it was asked.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.arms import ARMS, AS_INSTALLED, Job
from bench.nginx import BUCKET, Nginx
from bench.sync import Load, make_files
from tests.support.running import environment


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--arms", default="tusz,s5cmd,rclone,aws")
    parser.add_argument("--peers", help="directory with s5cmd, rclone and aws (default: beside Python, then PATH)")
    options = parser.parse_args()
    arms = [(arm, arm.find(options.peers)) for arm in ARMS if arm.name.startswith(tuple(options.arms.split(",")))]
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        work, target = Path(place) / "work", Path(place) / "target"
        work.mkdir()
        Path(place).chmod(0o755)  # nginx reads as another user
        make_files(Path(place) / BUCKET, Load("one", 8, 1, 1024))
        with Nginx(Path(place), work, logs=True) as server:
            for number in range(options.runs + 1):  # the first leaves byte code and is not counted
                for arm, program in arms:
                    if program is None:
                        continue
                    shutil.rmtree(target, ignore_errors=True)
                    (work / "access.log").write_text("")
                    job = Job(server.url("http"), f"{BUCKET}/one/all", target, server.cafile)
                    began = time.time()
                    command = arm.command(sys.executable if arm.program == "python" else program, job)
                    subprocess.run(command, env=environment(AS_INSTALLED), check=True, capture_output=True)
                    asked = [line.split() for line in (work / "access.log").read_text().splitlines()]
                    first = min(float(moment) for moment, path in asked if path.endswith(".npz"))
                    if number:
                        taken.setdefault(arm.name, []).append(first - began)
    print("| arm | seconds to the first object (least-most) |\n|---|---|")
    for name, seconds in taken.items():
        print(f"| {name} | {median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f}) |")


if __name__ == "__main__":
    main()
