"""A throw-away PostgreSQL, for `fkdoctor demo` and for tests that were given no server.

`binaries` answers where PostgreSQL's programs are; `cluster` starts them and cleans up.
"""

from fkdoctor.embedded.cluster import Server, start_server

__all__ = ["Server", "start_server"]
