"""What setup.cfg has no words for: the part in C.  Where it cannot be compiled, it is left out."""

from setuptools import Extension, setup

PARTS = (
    "attributes",
    "files",
    "landing",
    "module",
    "passing",
    "reading",
    "sending",
    "splitting",
    "storing",
)

setup(
    ext_modules=[
        Extension(
            "logging_proxy.shortcut._compiled",
            [f"logging_proxy/shortcut/{part}.c" for part in PARTS],
            depends=["logging_proxy/shortcut/shortcut.h"],
            optional=True,
        )
    ]
)
