"""
Several forwarding processes: a fleet of workers, supervised by the proxy's main process.

fleet.py     main process: starts, instructs, restarts and stops workers
orders.py    the messages to a worker, and the socket pair that carries them
worker.py    worker process: its service
entrance.py  worker process: accepts on listening sockets shared by all workers
spools.py    the workers' spool directories, and those left by former workers
turns.py     the rule for sharing connections evenly, based on the counters in board.py
"""
