#!/usr/bin/env python3
"""Builds the conformance programs, runs each natively and, with --under, behind a command; both must print the same.

    run.py [--under 'target/debug/solo --'] [--only NAME] [--repeat N]

Exit code 0 if every program printed the same lines, with the same exit code, in every run."""
import argparse
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SECONDS = 20


def build(source, folder):
    binary, library = folder / source.stem, source.parent / "libraries" / source.name
    linked = []
    if library.exists():
        linked = [compiled(library, binary.with_suffix(".so"), ["-shared", "-fPIC"])]
    return compiled(source, binary, [*linked, "-ldl"])


def compiled(source, binary, more):
    """A line `// cc: ...` gives a program more options."""
    asked = [line.removeprefix("// cc: ") for line in source.read_text().splitlines() if line.startswith("// cc: ")]
    command = ["cc", "-std=gnu2x", "-O1", "-g", "-Wall", "-Wextra", "-pthread", *shlex.split(" ".join(asked))]
    subprocess.run([*command, str(source), "-o", str(binary), *more], check=True)
    return binary


def run(command):
    """What the program says, run in a folder of its own: some make files there."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL, cwd=folder
            )
        except subprocess.TimeoutExpired as late:
            text = (late.stdout or b"").decode(errors="replace")
            return f"{text}(no end after {SECONDS} s)\n"
    extra = done.stderr if done.returncode else ""
    return f"{done.stdout}{extra}exit {done.returncode}\n"


def compare(name, expected, got):
    if expected == got:
        return True
    print(f"FAIL {name}")
    want, have = expected.splitlines(), got.splitlines()
    for i in range(max(len(want), len(have))):
        a = want[i] if i < len(want) else "(nothing)"
        b = have[i] if i < len(have) else "(nothing)"
        if a != b:
            print(f"  line {i + 1}: natively {a!r}, here {b!r}")
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--under", help="command line in front of each program; other paths in it than the command must be absolute")
    parser.add_argument("--only", help="run this program alone")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each kind (default 2)")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for source in sorted(HERE.glob("*.c")):
            if options.only and source.stem != options.only:
                continue
            binary = build(source, pathlib.Path(folder))
            expected = run([binary])
            good = "(no end after" not in expected
            if not good:
                print(f"FAIL {source.stem}: no end natively")
            good &= all(compare(source.stem, expected, run([binary])) for _ in range(options.repeat - 1))
            if options.under:
                program, *arguments = shlex.split(options.under)
                prefix = [os.path.abspath(program) if "/" in program else program, *arguments]
                good &= all([compare(source.stem, expected, run(prefix + [str(binary)])) for _ in range(options.repeat)])
            if good:
                print(f"ok   {source.stem}")
            failed += not good
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
