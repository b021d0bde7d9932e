"""What setup.cfg has no words for: the part in C.  Where it cannot be compiled, it is left out."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension("logging_proxy._shortcut", ["logging_proxy/_shortcut.c"], optional=True),
    ]
)
