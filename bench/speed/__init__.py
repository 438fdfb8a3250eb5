"""How fast is textune, beside which peers, and how near the machine's own limit? `make bench` asks; this package answers.

    __main__.py    the command: which questions, which data, how many seconds
    questions/     one file for each kind of question; `questions/__init__.py` lists them with their goals
    ours/          worker processes that drive textune
    peers/         worker processes that drive everything else; nothing of textune is imported there
    protocol.py    the worker's end of the pipe; workers.py: our end
    measure.py     pure: pairs to ratios, how long a segment is, which rows it holds
    data.py        texts; shapes.py: backbones of real size with random weights
    rows.py        the JSON rows; machine.py: where they were measured
    page.py        JSON to the tables and plots of docs/performance.md; plots.py

Two systems are compared as two processes that take turns, a segment each: only one ever computes, the other waits for its
next command. So both meet the same machine in the same minutes, and the ratio of a pair is not moved by a busy neighbour.
"""
