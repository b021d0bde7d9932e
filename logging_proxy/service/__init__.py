"""The services that twistd starts: the proxy's output, console, signals, reload, and child processes."""
