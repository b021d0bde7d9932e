"""
Several processes that forward: a fleet of workers, and the proxy's own process that looks after them.

    fleet.py     the proxy's side: workers started, told, started again, stopped
    orders.py    what a worker is told, and the socket pair that it is told by
    worker.py    the worker's side: its service
    entrance.py  how workers accept on sockets that they share
    spools.py    where they record, and what former workers have left
    turns.py     the rule by which they share fairly, on a board.py of numbers that all see
"""
