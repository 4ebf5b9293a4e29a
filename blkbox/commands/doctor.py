"""``trace doctor``."""

import json
from typing import Annotated

import typer


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Show which programs are here and what will work.

    Example: BLKBOX_QEMU_NBD=~/qemu/build/qemu-nbd trace doctor
    """
    from tracer.driver import tools
    from tracer.driver.spec import FORMATS
    from tracer.text import table

    found = []
    for name, purpose in tools.TOOLS.items():
        path = tools.find(name)
        version = tools.version(path) if path else None
        found.append(
            {"name": name, "path": path, "version": version, "purpose": purpose,
             "variable": tools.variable(name)}
        )  # fmt: skip
    served = ["raw"]
    if tools.find("qemu-nbd") and tools.find("qemu-img"):
        served = list(FORMATS)
    if as_json:
        print(json.dumps({"schema": 1, "tools": found, "drivers": served}, indent=2))
        return 0
    rows = [
        (
            tool["name"] or "",
            tool["version"] or "-",
            tool["path"] or "not found",
            tool["purpose"] or "",
        )
        for tool in found
    ]
    print(table([("program", "version", "path", "what for"), *rows]))
    print(f"\ndrivers that work here: {', '.join(served)}, NBD URIs, .toml files")
    if len(served) == 1:
        print("for qcow2 and the other formats, and for block devices: install qemu-utils")
    return 0
