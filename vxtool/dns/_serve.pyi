from vxtool.dns.resolver import Table

class Batch:
    def serve(self, fd: int, table: Table) -> list[tuple[bytes, tuple[str, int]]]: ...
