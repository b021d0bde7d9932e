"""From events to files: gathering halves, publishing them, the log directory and its system calls."""
