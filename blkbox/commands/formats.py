"""``trace formats``."""

import json

from blkbox.commands.options import AsJson


def formats(as_json: AsJson = False) -> int:
    """List the formats of drivers, imports and exports.

    Example: trace formats

    The names are what --driver and --format accept; docs/drivers.md and docs/interop.md say more.
    """
    from analysis.interop.formats import EXPORTS, IMPORTS
    from tracer.driver.spec import FORMATS
    from tracer.text import table

    if as_json:
        lists = {
            "drivers": list(FORMATS),
            "imports": {name: form.title for name, form in IMPORTS.items()},
            "exports": {
                name: {"title": form.title, "suffixes": form.suffixes}
                for name, form in EXPORTS.items()
            },
        }
        print(json.dumps({"schema": 1, **lists}, indent=2))
        return 0
    rows: list[tuple[str, ...]] = [("import", "what", "data of writes")]
    rows += [
        (name, form.title, "yes" if form.payloads == "full" else "no")
        for name, form in IMPORTS.items()
    ]
    print(table(rows))
    rows = [("export", "what", "suffixes")]
    rows += [(name, form.title, ", ".join(form.suffixes)) for name, form in EXPORTS.items()]
    print("\n" + table(rows))
    print(f"\ndrivers: {', '.join(FORMATS)}; NBD URIs, block devices, .toml files")
    return 0
