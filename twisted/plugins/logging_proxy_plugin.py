from twisted.application.service import ServiceMaker

logging_proxy = ServiceMaker(
    "Logging Proxy",
    "logging_proxy.tap",
    "A reverse proxy that keeps every request and response byte for byte.",
    "logging-proxy",
)

logging_server = ServiceMaker(
    "Logging Server",
    "logging_proxy.logserver.tap",
    "Keeps what logging proxies captured: files of every exchange.",
    "logging-server",
)
