"""hesslab beside its peers, one table after the other.

    python benchmarks/run.py                 all of them: about half an hour on two cores
    python benchmarks/run.py traces          those named

Peers that are not installed are skipped with a line. Counts and errors are comparable between machines;
times are ratios within one run.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(arguments: list[str]) -> int:
    """Run the named benchmarks in turn; 0 where all end well, 2 for a name that is not there."""
    known = sorted(path.stem for path in HERE.glob("*.py") if path.stem != "run")
    if unknown := sorted(set(arguments) - set(known)):
        print(f"{unknown[0]} is no benchmark; there are {', '.join(known)}", file=sys.stderr)
        return 2
    codes = []
    for name in arguments or known:
        print(f"\n## {name}\n", flush=True)
        codes.append(subprocess.call([sys.executable, str(HERE / f"{name}.py")], cwd=HERE.parent))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
