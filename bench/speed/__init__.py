"""How fast is textune, beside which peers, and how near the machine's own limit? `make bench` asks; this package
answers.

    __main__.py    the command: which questions, which data, how many seconds
    questions.py   the one table: what is asked, how long, by which function, and the goal of each row
    training.py, prediction.py, processes.py, inside.py    the functions that answer
    race.py        systems that train in turns; measure.py: pairs to ratios, how long a segment is, which rows it holds
    work.py        settings and configs; texts.py, backbones.py: what is trained

Two systems are compared as two processes (`../worker.py`, `../sides/`) that take turns, a segment each: only one ever
computes, the other waits for its next command. So both meet the same machine in the same minutes, and the ratio of a
pair is not moved by a busy neighbour.
"""
