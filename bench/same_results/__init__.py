"""Whether a change of the code changes a result: small runs, recorded before it and after it, compared bit for bit.

    python -m bench.same_results record /tmp/old          with the textune that PYTHONPATH chooses
    python -m bench.same_results record /tmp/new
    python -m bench.same_results compare /tmp/old /tmp/new          exit code 1 where a result differs
    python -m bench.same_results resume /tmp/old          this textune resumes what the other one had begun
    python -m bench.same_results check /tmp/old           all of it: records in a temporary folder, compares, resumes

A record holds, for each run: `run`, its folder, with what `evaluate` said of a second file; `twin`, the same run
resumed as if it had been killed in its middle; `exported`, the model of the checkpoint there; and `outputs`:
predictions as CSV and JSON lines, and what `check` and `load` say. Only the public API and the command line are used:
other versions can be recorded.

runs.py   what is trained, with what    compare.py   two folders    __main__.py   the command line
"""
