"""What twistd starts: the proxy with its output and console, signals, reload, and the child processes."""
