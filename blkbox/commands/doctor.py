"""``trace doctor``."""

import json
from dataclasses import asdict

from blkbox.commands.options import AsJson


def doctor(
    as_json: AsJson = False,
) -> int:
    """Show which programs are installed and which drivers work.

    Example: BLKBOX_QEMU_NBD=~/qemu/build/qemu-nbd trace doctor
    """
    from tracer.driver.doctor import formats, programs
    from tracer.text import table

    tools, served = programs(), formats()
    if as_json:
        rows = [asdict(tool) for tool in tools]
        print(json.dumps({"schema": 1, "tools": rows, "drivers": served}, indent=2))
        return 0
    lines = [
        (tool.name, tool.version or "-", tool.path or "not found", tool.purpose) for tool in tools
    ]
    print(table([("program", "version", "path", "what for"), *lines]))
    print(f"\ndrivers that work here: {', '.join(served)}, NBD URIs, .toml files")
    if len(served) == 1:
        print("for qcow2 and the other formats, and for block devices: install qemu-utils")
    return 0
